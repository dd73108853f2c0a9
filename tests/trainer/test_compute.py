from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.batch import IGNORED, Row
from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.errors import (
    EmptyGradientError,
    NonFiniteLossError,
    OperationFailedError,
    SequenceTooLongError,
    TokenOutOfVocabularyError,
)
from tests.support.tiny_model import MAX_POSITIONS, VOCABULARY, build_tiny_model
from tests.trainer.batches import padded, random_rows
from tests.trainer.conftest import ADAMW, LORA
from tests.trainer.hand_loop import hand_written, trained

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


BATCHES = [[random_rows(1), random_rows(2, (4, 17))], [random_rows(3, (20,))], [random_rows(4), random_rows(5)]]


def test_losses_and_adapter_equal_a_hand_written_peft_loop(
    model_dir: Path, new_adapter: Callable[..., Adapter]
) -> None:
    adapter = new_adapter()
    losses = trained(adapter, BATCHES)
    wanted_losses, wanted = hand_written(model_dir, BATCHES, LORA, ADAMW)
    assert losses == pytest.approx(wanted_losses, abs=1e-5)
    weights = adapter.weights()
    assert weights.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(weights[name].cpu(), tensor, atol=1e-5, rtol=0)


def test_the_gradient_norm_is_that_of_the_call_alone(new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter()
    first = forward_backward(adapter, random_rows(1), seed=1)
    again = forward_backward(adapter, random_rows(1), seed=1)
    assert first == again
    total = torch.cat([g.flatten() for g in adapter.gradients.values()]).norm()
    assert float(total) == pytest.approx(2 * first.grad_norm, rel=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_has_loss_and_gradient_of_its_unpadded_rows(
    side: str, new_adapter: Callable[..., Adapter]
) -> None:
    rows = random_rows(3, (9, 5, 12))
    one, other = new_adapter(), new_adapter()
    wanted = forward_backward(one, rows, seed=3)
    assert forward_backward(other, padded(rows, side, width=30), seed=3) == wanted
    for name, gradient in one.gradients.items():
        assert torch.equal(gradient, other.gradients[name])


def test_a_batch_has_the_mean_loss_of_its_rows_by_their_tokens(new_adapter: Callable[..., Adapter]) -> None:
    lora = LORA.__class__(rank=4, alpha=8.0, dropout=0.0, target_modules=("q_proj",), bias="none")
    rows = random_rows(3, (9, 5, 12))
    together = forward_backward(new_adapter(lora=lora), rows, seed=0)
    alone = [forward_backward(new_adapter(lora=lora), [row], seed=0) for row in rows]
    targets = [len(row.tokens) - 1 for row in rows]
    mean = sum(g.loss * n for g, n in zip(alone, targets, strict=True)) / sum(targets)
    assert together.loss == pytest.approx(mean, abs=1e-6)
    assert together.tokens == 26


def test_ignored_labels_do_not_count(new_adapter: Callable[..., Adapter]) -> None:
    tokens = tuple(range(1, 9))
    answer_only = Row(tokens, (IGNORED,) * 5 + tokens[5:])
    loss = forward_backward(new_adapter(), [answer_only], seed=0).loss
    assert loss != pytest.approx(forward_backward(new_adapter(), [Row(tokens, tokens)], seed=0).loss, abs=1e-3)


def test_same_seed_and_inputs_give_the_same_digest_on_a_second_instance(
    model_dir: Path, new_adapter: Callable[..., Adapter]
) -> None:
    one, other = new_adapter(), Adapter(SharedBase(model_dir), LORA, ADAMW, 7)
    trained(one, BATCHES)
    torch.rand(17)
    trained(other, BATCHES)
    assert one.digest() == other.digest()
    assert one.digest() != new_adapter(seed=8).digest()


def test_two_runs_share_one_base_and_do_not_disturb_each_other(
    base: SharedBase, new_adapter: Callable[..., Adapter]
) -> None:
    alone = new_adapter()
    trained(alone, BATCHES)
    wanted = alone.digest()
    before = {name: p.detach().clone() for name, p in base.base.named_parameters() if "lora" not in name}
    one, other = new_adapter(), new_adapter(seed=9)
    for index, calls in enumerate(BATCHES):
        op_seq = 1 + sum(len(b) + 1 for b in BATCHES[:index])
        trained(one, [calls], op_seq)
        trained(other, [calls])
    assert one.digest() == wanted
    assert other.digest() != wanted
    after = {name: p for name, p in base.base.named_parameters() if "lora" not in name}
    assert all(torch.equal(before[name], p) for name, p in after.items())


def test_a_second_run_adds_no_base_weight(base: SharedBase, new_adapter: Callable[..., Adapter]) -> None:
    def weights(adapter: Adapter) -> dict[int, int]:
        held = base.activate(adapter.name, training=False).parameters()
        return {p.data_ptr(): p.numel() for p in held}

    of_base = {p.data_ptr(): p.numel() for p in base.base.parameters()}
    first, second, third = new_adapter(), new_adapter(seed=2), new_adapter(lora=replace(LORA, use_dora=True))
    own = [sum(p.numel() for p in adapter.parameters.values()) for adapter in (first, second, third)]
    assert sum(weights(second).values()) == sum(of_base.values()) + own[0] + own[1]
    assert sum(weights(third).values()) == sum(of_base.values()) + own[2]
    assert of_base.items() <= weights(second).items()
    assert of_base.items() <= weights(third).items()
    second.close()
    assert sum(weights(first).values()) == sum(of_base.values()) + own[0]


def test_a_non_finite_loss_accumulates_nothing(new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter()
    forward_backward(adapter, random_rows(1), seed=1)
    held = {name: g.clone() for name, g in adapter.gradients.items()}
    next(iter(adapter.parameters.values())).data.fill_(math.nan)
    with pytest.raises(NonFiniteLossError):
        forward_backward(adapter, random_rows(1), seed=1)
    assert adapter.calls == 1
    assert all(torch.equal(held[name], g) for name, g in adapter.gradients.items())


LONG = (1,) * (MAX_POSITIONS + 1)
REFUSED = {
    "token above the vocabulary": (Row((1, VOCABULARY), (1, 2)), TokenOutOfVocabularyError),
    "negative token": (Row((1, -1), (1, 2)), TokenOutOfVocabularyError),
    "a token that looks like an ignored label": (Row((1, IGNORED), (1, 2)), TokenOutOfVocabularyError),
    "label above the vocabulary": (Row((1, 2), (1, VOCABULARY)), TokenOutOfVocabularyError),
    "more tokens than positions": (Row(LONG, LONG), SequenceTooLongError),
    "no target at all": (Row((1, 2, 3), (IGNORED,) * 3), NonFiniteLossError),
    "a single token": (Row((1,), (1,)), NonFiniteLossError),
}


@pytest.mark.parametrize(("row", "error"), REFUSED.values(), ids=REFUSED)
def test_a_batch_is_refused(row: Row, error: type[OperationFailedError], new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter()
    with pytest.raises(error):
        forward_backward(adapter, [row], seed=0)
    assert adapter.calls == 0


def test_a_step_without_gradient_is_refused(new_adapter: Callable[..., Adapter]) -> None:
    with pytest.raises(EmptyGradientError):
        optim_step(new_adapter(), 1)


def test_a_step_takes_the_learning_rate_of_the_call(new_adapter: Callable[..., Adapter]) -> None:
    one, other = new_adapter(), new_adapter()
    for adapter, rate in ((one, None), (other, 1e-4)):
        forward_backward(adapter, random_rows(1), seed=1)
        assert optim_step(adapter, 2, rate).learning_rate == (rate or ADAMW.learning_rate)
    assert one.digest() != other.digest()


UNFIT = {
    "a module the model has not": LORA.__class__(4, 8.0, 0.0, ("q_proj", "no_such"), "none"),
    "no such module at all": LORA.__class__(4, 8.0, 0.0, ("proj",), "none"),
}


@pytest.mark.parametrize("lora", UNFIT.values(), ids=UNFIT)
def test_an_adapter_that_does_not_fit_is_refused(lora: Any, new_adapter: Callable[..., Adapter]) -> None:
    with pytest.raises(OperationFailedError):
        new_adapter(lora=lora)
    forward_backward(new_adapter(), random_rows(1), seed=1)


@pytest.mark.parametrize("which", ["lora_only", "all"])
def test_biases_are_trained_as_peft_does_and_stay_a_runs_own(which: str, tmp_path: Path) -> None:
    directory = build_tiny_model(tmp_path / "biased", biases=True)
    base = SharedBase(directory)
    lora = LORA.__class__(4, 8.0, 0.1, LORA.target_modules, which)
    plain, biased = Adapter(base, LORA, ADAMW, 7), Adapter(base, lora, ADAMW, 7)
    untouched = Adapter(SharedBase(directory), LORA, ADAMW, 7)
    losses = []
    for index, calls in enumerate(BATCHES):
        op_seq = 1 + sum(len(b) + 1 for b in BATCHES[:index])
        losses += trained(biased, [calls], op_seq)
        trained(plain, [calls], op_seq)
    trained(untouched, BATCHES)
    wanted_losses, wanted = hand_written(directory, BATCHES, lora, ADAMW)
    assert losses == pytest.approx(wanted_losses, abs=1e-5)
    assert biased.weights().keys() == wanted.keys() > plain.weights().keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(biased.weights()[name], tensor, atol=1e-5, rtol=0)
    assert plain.digest() == untouched.digest()
