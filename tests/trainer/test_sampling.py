from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.errors import NonFiniteLossError, SequenceTooLongError
from processors.trainer.sampling import Sampling, nucleus, sample
from processors.trainer.seeds import prompt_seed
from tests.support.tiny_model import MAX_POSITIONS
from tests.trainer.batches import random_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.trainer.adapter import Adapter
    from processors.trainer.base_model import SharedBase

PROMPTS = ["to be", "whether 'tis nobler in the mind", "a", ""]
GREEDY = Sampling(max_tokens=12, temperature=0.0, top_p=1.0, seed=0)
WARM = Sampling(max_tokens=12, temperature=1.0, top_p=0.9, seed=5)


@pytest.fixture
def adapter(new_adapter: Callable[..., Adapter]) -> Adapter:
    """An adapter that has moved away from the base."""
    adapter = new_adapter()
    for op_seq in range(3):
        forward_backward(adapter, random_rows(op_seq), seed=op_seq)
        optim_step(adapter, op_seq, 0.02)
    return adapter


def _generated(base: SharedBase, adapter: Adapter, prompt: str) -> list[int]:
    model: Any = base.activate(adapter.name, training=False)
    tokens = torch.tensor([base.encode(prompt)])
    with torch.no_grad():
        whole = model.generate(input_ids=tokens, max_new_tokens=GREEDY.max_tokens, do_sample=False, pad_token_id=0)
    new: list[int] = whole[0, tokens.shape[1] :].tolist()
    return new


def test_greedy_equals_generate(base: SharedBase, adapter: Adapter) -> None:
    for completion in sample(adapter, PROMPTS, GREEDY):
        wanted = _generated(base, adapter, completion.prompt)
        assert completion.completion == base.decode(wanted)
        assert completion.tokens_generated == len(wanted)


SETTINGS = {
    "plain": (1.0, 1.0),
    "a nucleus": (1.0, 0.7),
    "warm": (1.7, 0.95),
    "cold": (0.3, 1.0),
    "a nucleus of one": (1.0, 1e-9),
}


@pytest.mark.parametrize(("temperature", "top_p"), SETTINGS.values(), ids=SETTINGS)
def test_drawing_equals_generate_from_the_same_random_numbers(
    base: SharedBase, adapter: Adapter, temperature: float, top_p: float
) -> None:
    prompt = "to be, or not é ☃ to be"
    found = sample(adapter, [prompt], Sampling(40, temperature, top_p, seed=3))[0]
    model: Any = base.activate(adapter.name, training=False)
    tokens = torch.tensor([base.encode(prompt)])
    torch.manual_seed(prompt_seed(3, 0))
    arguments = {"max_new_tokens": 40, "do_sample": True, "top_k": 0, "pad_token_id": 0}
    with torch.no_grad():
        whole = model.generate(input_ids=tokens, temperature=temperature, top_p=top_p, **arguments)
    made = whole[0, tokens.shape[1] :]
    assert (found.completion, found.tokens_generated) == (base.decode(made), len(made))


@pytest.mark.parametrize("temperature", [1e-30, 1e-39, 1e-50, 5e-324])
def test_a_temperature_close_to_zero_takes_the_likeliest(adapter: Adapter, temperature: float) -> None:
    prompts = [prompt for prompt in PROMPTS if prompt]  # after the empty one this model finds all tokens equally likely
    assert sample(adapter, prompts, Sampling(12, temperature, 1.0, 0)) == sample(adapter, prompts, GREEDY)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_without_finite_output_gives_no_text(adapter: Adapter, temperature: float) -> None:
    next(iter(adapter.parameters.values())).data.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError):
        sample(adapter, PROMPTS, Sampling(12, temperature, 1.0, 0))


def test_the_same_seed_gives_the_same_text_and_another_seed_another(adapter: Adapter) -> None:
    first = sample(adapter, PROMPTS, WARM)
    assert sample(adapter, PROMPTS, WARM) == first
    assert sample(adapter, PROMPTS, Sampling(12, 1.0, 0.9, seed=6)) != first


def test_neighbours_do_not_change_a_text(adapter: Adapter) -> None:
    assert sample(adapter, PROMPTS[:1], WARM) == sample(adapter, PROMPTS, WARM)[:1]


def test_sampling_reads_the_adapter_and_not_the_base(adapter: Adapter, new_adapter: Callable[..., Adapter]) -> None:
    assert sample(adapter, PROMPTS, GREEDY) != sample(new_adapter(), PROMPTS, GREEDY)


def test_sampling_changes_no_state(adapter: Adapter) -> None:
    before = {name: tensor.clone() for name, tensor in adapter.weights().items()}
    sample(adapter, PROMPTS, WARM)
    assert all(torch.equal(before[name], tensor) for name, tensor in adapter.weights().items())
    assert forward_backward(adapter, random_rows(1), seed=1).grad_norm > 0


def test_an_ending_token_stops_a_row_and_is_not_in_its_text(base: SharedBase, adapter: Adapter) -> None:
    prompt = next(c.prompt for c in sample(adapter, PROMPTS, GREEDY) if c.finish_reason == "length")
    tokens = _generated(base, adapter, prompt)
    ending = next(token for token in tokens[1:] if token != tokens[0])
    base.base.generation_config.eos_token_id = [ending]
    stopped = sample(adapter, [prompt], GREEDY)[0]
    assert stopped.finish_reason == "stop"
    assert stopped.tokens_generated == tokens.index(ending) + 1
    assert stopped.completion == base.decode(tokens[: tokens.index(ending)])


def test_a_completion_ends_where_the_positions_end(adapter: Adapter) -> None:
    prompt = "to be or not to be " * 4
    left = MAX_POSITIONS - len(adapter.base.encode(prompt))
    found = sample(adapter, [prompt], Sampling(MAX_POSITIONS, 0.0, 1.0, 0))[0]
    assert found.tokens_generated <= left
    assert found.finish_reason in {"length", "stop"}


def test_a_prompt_without_room_is_refused(adapter: Adapter) -> None:
    with pytest.raises(SequenceTooLongError):
        sample(adapter, ["xyzzy " * MAX_POSITIONS], GREEDY)


def test_the_nucleus_is_the_smallest_likeliest_set() -> None:
    probabilities_V = torch.tensor([0.1, 0.5, 0.15, 0.25])
    assert nucleus(probabilities_V, 1.0).tolist() == probabilities_V.tolist()
    assert nucleus(probabilities_V, 0.75).nonzero().flatten().tolist() == [1, 3]
    assert nucleus(probabilities_V, 0.76).nonzero().flatten().tolist() == [1, 2, 3]
    assert nucleus(probabilities_V, 1e-9).nonzero().flatten().tolist() == [1]
    assert nucleus(probabilities_V, 1e-300).nonzero().flatten().tolist() == [1]  # zero in 32 bits
