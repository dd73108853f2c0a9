"""Jobs that the tests of sampling share."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import torch

from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.sampling import SampleJob, Sampling, complete
from tests.trainer.batches import random_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from processors.trainer.adapter import Adapter
    from processors.trainer.base_model import SharedBase
    from processors.trainer.sampling import Completion, Finished, Generator

PROMPTS = ["to be", "whether 'tis nobler in the mind", "a", "or to take arms against a sea of troubles"]
GREEDY = Sampling(max_tokens=12, temperature=0.0)
WARM = Sampling(max_tokens=12, temperature=1.0, top_p=0.9, seed=5)
_ids = itertools.count(1)


def moved(adapter: Adapter, seed: int = 0, steps: int = 3) -> Adapter:
    """The adapter, after steps that take it away from the base."""
    for op_seq in range(steps):
        forward_backward(adapter, random_rows(seed + op_seq), seed=op_seq)
        optim_step(adapter, op_seq, 0.02)
    return adapter


def job(base: SharedBase, prompts: Sequence[str], sampling: Sampling, adapter: Adapter | None = None) -> SampleJob:
    """A job on texts."""
    tokens = [base.encode(prompt) for prompt in prompts]
    return SampleJob(next(_ids).to_bytes(16), adapter.name if adapter else None, tokens, sampling)


def alone(
    base: SharedBase, prompts: Sequence[str], sampling: Sampling, adapter: Adapter | None = None
) -> tuple[Completion, ...]:
    """The completions of a job that nothing else is generated with."""
    return complete(base, job(base, prompts, sampling, adapter))


def together(generator: Generator, jobs: Iterable[SampleJob], tokens: int = 7) -> dict[bytes, Finished]:
    """Each job's end, after they were all given in at once and worked off in slices."""
    for each in jobs:
        generator.submit(each)
    found: dict[bytes, Finished] = {}
    while generator.busy:
        found |= {finished.operation_id: finished for finished in generator.advance(tokens)}
    return found


def generated(model: Any, prompt: Sequence[int], **options: Any) -> list[int]:
    """The new tokens that transformers gives, greedily unless asked otherwise."""
    tokens = torch.tensor([list(prompt)])
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, **options}
    with torch.no_grad():
        whole = model.generate(input_ids=tokens, **settings)
    new: list[int] = whole[0, tokens.shape[1] :].tolist()
    return new
