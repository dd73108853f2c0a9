from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from processors.trainer.sampling import Sampling
from processors.trainer.sampling.drawing import nucleus
from processors.trainer.seeds import draw_seed
from tests.trainer.sampling.jobs import GREEDY, PROMPTS, alone, generated, moved

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.trainer.adapter import Adapter
    from processors.trainer.base_model import SharedBase

PROMPT = "to be, or not é ☃ to be"
OFF = {"top_k": 0, "top_p": 1.0, "min_p": None, "temperature": 1.0, "repetition_penalty": 1.0}


@pytest.fixture
def adapter(new_adapter: Callable[..., Adapter]) -> Adapter:
    """An adapter that has moved away from the base."""
    return moved(new_adapter())


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "a nucleus": {"top_p": 0.7},
    "warm": {"temperature": 1.7, "top_p": 0.95},
    "cold": {"temperature": 0.3},
    "a nucleus of one": {"top_p": 1e-9},
    "the likeliest": {"top_k": 20},
    "the likeliest one": {"top_k": 1},
    "more than there are": {"top_k": 100_000},
    "not too unlikely": {"min_p": 0.2},
    "everything": {"temperature": 1.4, "top_k": 60, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.3},
}


@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS)
def test_drawing_equals_generate_from_the_same_random_numbers(
    base: SharedBase, adapter: Adapter, options: dict[str, Any]
) -> None:
    found = alone(base, [PROMPT], Sampling(max_tokens=40, seed=3, **options), adapter)[0]
    torch.manual_seed(draw_seed(3, 0))
    wanted = generated(
        base.activate(adapter.name, training=False),
        base.encode(PROMPT),
        max_new_tokens=40,
        do_sample=True,
        **{**OFF, **options},
    )
    assert list(found.tokens) == wanted
    assert found.text == base.decode(wanted)


@pytest.mark.parametrize("temperature", [1e-30, 1e-39, 1e-50, 5e-324])
def test_a_temperature_close_to_zero_takes_the_likeliest(
    base: SharedBase, adapter: Adapter, temperature: float
) -> None:
    cold = alone(base, PROMPTS, Sampling(12, temperature), adapter)
    assert cold == alone(base, PROMPTS, GREEDY, adapter)


def test_cuts_do_not_change_what_is_likeliest(base: SharedBase, adapter: Adapter) -> None:
    cut = replace(GREEDY, top_k=3, top_p=0.5, min_p=0.9)
    assert alone(base, PROMPTS, cut, adapter) == alone(base, PROMPTS, GREEDY, adapter)


def test_log_probabilities_are_those_of_the_model_itself(base: SharedBase, adapter: Adapter) -> None:
    sampling = Sampling(8, temperature=1.5, top_k=40, repetition_penalty=1.2, logprobs=True, seed=2)
    for found in alone(base, PROMPTS, sampling, adapter):
        prompt = base.encode(PROMPTS[found.prompt_index])
        tokens = torch.tensor([[*prompt, *found.tokens]])
        with torch.no_grad(), base.serving([adapter.name]) as model:
            logits_TV = model(input_ids=tokens).logits[0].float()
        wanted_TV = logits_TV[len(prompt) - 1 : -1].log_softmax(-1)
        wanted = wanted_TV.gather(-1, torch.tensor(found.tokens).unsqueeze(-1)).squeeze(-1)
        assert found.logprobs is not None
        torch.testing.assert_close(torch.tensor(found.logprobs), wanted, atol=1e-5, rtol=1e-5)


def test_the_nucleus_is_the_smallest_likeliest_set() -> None:
    chances_RV = torch.tensor([[0.1, 0.5, 0.15, 0.25]] * 5)
    masses = [1.0, 0.75, 0.76, 1e-9, 1e-300]  # the last is zero in 32 bits
    kept = [row.nonzero().flatten().tolist() for row in nucleus(chances_RV, masses)]
    assert kept == [[0, 1, 2, 3], [1, 3], [1, 2, 3], [1], [1]]
