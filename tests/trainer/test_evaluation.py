"""Evaluating without a gradient, and weighing labels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from tensorguard.commitment import canonical

from processors.trainer import compute
from processors.trainer.adapter import Adapter
from processors.trainer.batch import IGNORED, Row, parse_batch
from processors.trainer.compute import forward, forward_backward
from processors.trainer.errors import NonFiniteLossError, OperationFailedError
from tests.support.tiny_model import VOCABULARY
from tests.trainer.batches import random_rows
from tests.trainer.conftest import LORA
from tests.trainer.hand_loop import trained

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.trainer.base_model import SharedBase

STILL = replace(LORA, dropout=0.0)


def _weighted(rows: list[Row], seed: int) -> list[Row]:
    torch.manual_seed(seed)
    return [replace(row, weights=tuple(torch.rand(len(row.tokens)).tolist())) for row in rows]


def test_an_evaluation_gives_the_loss_and_every_tokens_log_probability(new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter(lora=STILL)
    trained(adapter, [[random_rows(5)]])
    rows = random_rows(1)
    found = forward(adapter.base, adapter.name, rows)
    assert found.loss == pytest.approx(forward_backward(adapter, rows, seed=1).loss, abs=1e-6)
    assert found.tokens == sum(len(row.tokens) for row in rows)
    model = adapter.base.activate(adapter.name, training=False)
    for row, logprobs in zip(rows, found.logprobs, strict=True):
        with torch.no_grad():
            logits_TV = (
                model(input_ids=torch.tensor([row.tokens], device=adapter.base.device)).logits[0].log_softmax(-1)
            )
        wanted = [float(logits_TV[place, token]) for place, token in enumerate(row.tokens[1:])]
        assert logprobs[0] is None
        assert logprobs[1:] == pytest.approx(wanted, abs=1e-5)


def test_an_evaluation_changes_nothing(new_adapter: Callable[..., Adapter]) -> None:
    one, other = new_adapter(), new_adapter()
    forward_backward(one, random_rows(1), seed=1)
    forward(one.base, one.name, random_rows(2))
    forward(one.base, None, random_rows(2))
    forward_backward(one, random_rows(3), seed=2)
    for index in (1, 3):
        forward_backward(other, random_rows(index), seed=1 + index // 3)
    assert all(torch.equal(one.gradients[name], g) for name, g in other.gradients.items())
    assert all(parameter.grad is None for parameter in one.parameters.values())


def test_the_bare_base_can_be_evaluated(base: SharedBase, new_adapter: Callable[..., Adapter]) -> None:
    bare = forward(base, None, random_rows(1))
    fresh = new_adapter()
    assert forward(base, fresh.name, random_rows(1)).loss == pytest.approx(bare.loss, abs=1e-6)


def test_log_probabilities_stand_where_their_tokens_stood(new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter()
    tokens = [[0, 5, 0, 6, 7], [8, 9, 10, 0, 0]]
    mask = [[0, 1, 0, 1, 1], [1, 1, 1, 0, 0]]
    rows = parse_batch(canonical({"input_ids": tokens, "attention_mask": mask, "labels": tokens}))
    found = forward(adapter.base, adapter.name, rows).logprobs
    assert [[value is not None for value in row] for row in found] == [
        [False, False, False, True, True],
        [False, True, True, False, False],
    ]
    plain = forward(adapter.base, adapter.name, [Row((5, 6, 7), (5, 6, 7)), Row((8, 9, 10), (8, 9, 10))]).logprobs
    assert [value for row in found for value in row if value is not None] == pytest.approx(
        [value for row in plain for value in row if value is not None], abs=1e-6
    )


def test_pieces_evaluate_as_the_whole(new_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = new_adapter()
    rows = _weighted(random_rows(1, (9, 5, 12, 7)), 3)
    whole = forward(adapter.base, adapter.name, rows)
    monkeypatch.setattr(compute, "MAX_LOGITS", 12 * VOCABULARY)
    pieces = forward(adapter.base, adapter.name, rows)
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-6)
    for one, other in zip(pieces.logprobs, whole.logprobs, strict=True):
        assert one[1:] == pytest.approx(other[1:], abs=1e-5)


def test_weights_make_a_weighted_mean(new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter(lora=STILL)
    rows = _weighted(random_rows(1), 3)
    logprobs = forward(adapter.base, adapter.name, rows).logprobs
    pairs = [
        (weight, value)
        for row, found in zip(rows, logprobs, strict=True)
        for weight, value in zip(row.weights or (), found, strict=True)
        if value is not None
    ]
    wanted = -sum(weight * value for weight, value in pairs) / sum(weight for weight, _ in pairs)
    assert forward(adapter.base, adapter.name, rows).loss == pytest.approx(wanted, abs=1e-5)
    assert forward_backward(adapter, rows, seed=1).loss == pytest.approx(wanted, abs=1e-5)


def test_weights_of_one_change_nothing_and_weights_of_zero_are_a_mask(new_adapter: Callable[..., Adapter]) -> None:
    rows = random_rows(1)
    ones = [replace(row, weights=(1.0,) * len(row.tokens)) for row in rows]
    masked = [replace(row, labels=(*row.labels[:3], *(IGNORED,) * (len(row.labels) - 3))) for row in rows]
    zeros = [replace(row, weights=(1.0,) * 3 + (0.0,) * (len(row.tokens) - 3)) for row in rows]
    for one, other in ((rows, ones), (masked, zeros)):
        plain, weighted = new_adapter(), new_adapter()
        first, second = forward_backward(plain, one, seed=1), forward_backward(weighted, other, seed=1)
        assert first.loss == pytest.approx(second.loss, abs=1e-6)
        for name, gradient in plain.gradients.items():
            torch.testing.assert_close(weighted.gradients[name], gradient, atol=1e-6, rtol=1e-4)


def test_weighted_pieces_give_the_gradient_of_the_whole(
    new_adapter: Callable[..., Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [*_weighted(random_rows(1, (9, 5, 12, 7)), 3), Row((1, 2, 3), (1, 2, 3), (5.0, 0.0, 0.0))]
    whole, pieces = new_adapter(lora=STILL), new_adapter(lora=STILL)
    wanted = forward_backward(whole, rows, seed=1)
    monkeypatch.setattr(compute, "MAX_LOGITS", 12 * VOCABULARY)
    found = forward_backward(pieces, rows, seed=1)
    assert pieces.micro_batches > 1
    assert found.loss == pytest.approx(wanted.loss, rel=1e-6)
    for name, gradient in whole.gradients.items():
        torch.testing.assert_close(pieces.gradients[name], gradient, atol=1e-6, rtol=1e-4)


def test_nothing_to_evaluate_is_refused(new_adapter: Callable[..., Adapter]) -> None:
    adapter = new_adapter()
    for row in (Row((1, 2), (IGNORED, IGNORED)), Row((1, 2), (1, 2), (1.0, 0.0))):
        with pytest.raises(NonFiniteLossError):
            forward(adapter.base, adapter.name, [row])
        with pytest.raises(NonFiniteLossError):
            forward_backward(adapter, [row], seed=1)
    next(iter(adapter.parameters.values())).data.fill_(math.nan)
    with pytest.raises(NonFiniteLossError):
        forward(adapter.base, adapter.name, random_rows(1))


def test_weights_of_another_length_are_no_batch() -> None:
    batch = {"input_ids": [[1, 2]], "attention_mask": [[1, 1]], "labels": [[1, 2]], "weights": [[1.0]]}
    with pytest.raises(OperationFailedError):
        parse_batch(canonical(batch))
