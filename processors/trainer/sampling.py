"""Completions of prompts by a run's adapter, with a KV cache."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from processors.trainer.errors import NonFiniteLossError, SequenceTooLongError
from processors.trainer.seeds import prompt_seed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from processors.trainer.adapter import Adapter
    from processors.trainer.base_model import SharedBase

ROWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: temperature 0 takes the likeliest; ``top_p`` keeps the smallest set of that mass."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One prompt's continuation; ``finish_reason`` is "stop" (the model ended it) or "length"."""

    prompt: str
    completion: str
    tokens_generated: int
    finish_reason: str

    def to_dict(self) -> dict[str, str | int]:
        """As results and commitments write it."""
        return {
            "prompt": self.prompt,
            "completion": self.completion,
            "tokens_generated": self.tokens_generated,
            "finish_reason": self.finish_reason,
        }


def sample(adapter: Adapter, prompts: Sequence[str], sampling: Sampling) -> list[Completion]:
    """Complete prompts; the same adapter, prompts and settings give the same texts.

    Raises:
        SequenceTooLongError: a prompt leaves no position for a token.
        NonFiniteLossError: the model's output is not finite.
    """
    base = adapter.base
    encoded = [base.encode(prompt) for prompt in prompts]
    if any(len(tokens) >= base.max_positions for tokens in encoded):
        raise SequenceTooLongError(f"A prompt fills all of the model's {base.max_positions} positions.")
    base.activate(adapter.name, training=False)
    found: list[list[int]] = []
    for start in range(0, len(encoded), ROWS_AT_ONCE):
        rows = encoded[start : start + ROWS_AT_ONCE]
        seeds = [prompt_seed(sampling.seed, index) for index in range(start, start + len(rows))]
        found += _generate(adapter, rows, seeds, sampling)
    return [_completion(base, prompt, tokens) for prompt, tokens in zip(prompts, found, strict=True)]


def _completion(base: SharedBase, prompt: str, tokens: list[int]) -> Completion:
    ended = bool(tokens) and tokens[-1] in base.end_tokens
    text = base.decode(tokens[:-1] if ended else tokens)
    return Completion(prompt, text, len(tokens), "stop" if ended else "length")


def _generate(adapter: Adapter, rows: list[list[int]], seeds: list[int], sampling: Sampling) -> list[list[int]]:
    """The new tokens of each row, an ending token included."""
    ends = adapter.base.end_tokens
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    room = [min(sampling.max_tokens, adapter.base.max_positions - len(row)) for row in rows]
    made: list[list[int]] = [[] for _ in rows]
    steps = _decode(adapter, rows, made)
    while True:
        open_rows = [i for i, m in enumerate(made) if len(m) < room[i] and not (m and m[-1] in ends)]
        if not open_rows:
            return made
        logits_BV = next(steps)
        for index in open_rows:
            made[index].append(_draw(logits_BV[index], sampling, generators[index]))


def _decode(adapter: Adapter, rows: list[list[int]], made: list[list[int]]) -> Iterator[Tensor]:
    """Logits for the next token of every row, again and again; ``made`` grows in between. Shape (rows, vocabulary).

    Rows are padded on the left, so that every row's newest token stands last. A row that has ended goes on with
    token 0, which nobody reads.
    """
    base = adapter.base
    model = base.activate(adapter.name, training=False)
    longest = max(map(len, rows))
    tokens_BT = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=base.device)
    mask_BT = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=base.device)
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    cache = None
    for count in itertools.count(1):
        extra = base.arguments(position_ids=positions_BT, logits_to_keep=1)
        with torch.no_grad():
            output = model(input_ids=tokens_BT, attention_mask=mask_BT, past_key_values=cache, use_cache=True, **extra)
        yield output.logits[:, -1].float().cpu()
        cache = output.past_key_values
        tokens_BT = torch.tensor([[m[count - 1] if len(m) >= count else 0] for m in made], device=base.device)
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones((len(rows), 1))], dim=-1)
        positions_BT = (positions_BT[:, -1:] + 1).clamp(max=base.max_positions - 1)


def _draw(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if not bool(logits_V.isfinite().all()):
        raise NonFiniteLossError("The model's output is not finite.")
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    probabilities_V = warmed(logits_V, sampling.temperature)
    return int(torch.multinomial(nucleus(probabilities_V, sampling.top_p), 1, generator=generator))


def warmed(logits_V: Tensor, temperature: float) -> Tensor:
    """Probabilities at a temperature above zero, however small: the likeliest logit is shifted to zero first."""
    shifted_V = (logits_V - logits_V.max()).double() / temperature
    return torch.softmax(shifted_V, dim=-1).to(logits_V.dtype)


def nucleus(probabilities_V: Tensor, top_p: float) -> Tensor:
    """Probabilities with everything outside of the smallest likeliest set of mass ``top_p`` set to zero."""
    if top_p >= 1:
        return probabilities_V
    ordered_V, index_V = probabilities_V.sort(descending=True, stable=True)
    least = max(top_p, torch.finfo(ordered_V.dtype).tiny)  # less would be zero here, and leave no token to draw
    ordered_V = torch.where(ordered_V.cumsum(-1) - ordered_V < least, ordered_V, 0.0)
    return torch.zeros_like(probabilities_V).scatter(-1, index_V, ordered_V)
