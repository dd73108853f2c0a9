"""The two operations that move an adapter: accumulate a gradient, apply it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from processors.trainer.batch import IGNORED, Row, check_rows, collate
from processors.trainer.errors import EmptyGradientError, NonFiniteLossError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel
    from torch import Tensor

    from processors.trainer.adapter import Adapter

MAX_LOGITS = 1 << 27
"""How many logits are in memory at once: half a gigabyte, and a few times that while they are worked on."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """What one forward_backward call did: mean loss per target token, norm of its gradient, attended tokens."""

    loss: float
    grad_norm: float
    tokens: int


def forward_backward(adapter: Adapter, rows: Sequence[Row], seed: int) -> Gradient:
    """Add the gradient of a batch's mean token cross-entropy to what is accumulated.

    A batch that is large for its model goes through it in pieces: memory depends on the largest piece only.

    Raises:
        TokenOutOfVocabularyError, SequenceTooLongError: the batch does not fit the model.
        NonFiniteLossError: loss or gradient is not finite (no target at all included); nothing was accumulated.
    """
    base = adapter.base
    check_rows(rows, base.vocabulary, base.max_positions)
    model = base.activate(adapter.name, training=True)
    torch.manual_seed(seed)
    pieces, targets = micro_batches(rows, MAX_LOGITS // base.vocabulary), sum(map(_targets, rows))
    loss = 0.0 if targets else math.nan
    try:
        for piece in pieces if targets else ():
            loss += _backward(model, base.device, piece, sum(map(_targets, piece)) / targets)
        if not math.isfinite(loss):
            raise NonFiniteLossError("The loss is not a finite number.")
        gradients = {name: p.grad for name, p in adapter.parameters.items() if p.grad is not None}
    finally:
        adapter.optimizer.zero_grad(set_to_none=True)
    norm = gradient_norm(list(gradients.values()))
    _accumulate(adapter, gradients, len(pieces))
    return Gradient(loss, norm, sum(len(row.tokens) for row in rows))


def micro_batches(rows: Sequence[Row], positions: int) -> list[Sequence[Row]]:
    """The rows in order, in pieces that have at most so many positions when padded, but at least one row each."""
    pieces: list[Sequence[Row]] = []
    start = longest = 0
    for index, row in enumerate(rows):
        longest = max(longest, len(row.tokens))
        if index > start and longest * (index + 1 - start) > positions:
            pieces.append(rows[start:index])
            start, longest = index, len(row.tokens)
    return [*pieces, rows[start:]]


def _targets(row: Row) -> int:
    return sum(label != IGNORED for label in row.labels[1:])


def _backward(model: PeftModel, device: torch.device, rows: Sequence[Row], share: float) -> float:
    """Backpropagate a piece's share of its batch's loss; that share's value."""
    if not share:
        return 0.0
    tokens_BT, mask_BT, labels_BT = collate(rows, device)
    logits_BTV = model(input_ids=tokens_BT, attention_mask=mask_BT, use_cache=False).logits
    loss = mean_token_loss(logits_BTV, labels_BT) * share
    torch.autograd.backward(loss)
    return loss.item()


def mean_token_loss(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Cross-entropy of each next token that is a target, in float32, as the mean over all of them; NaN without any."""
    targets_BT = labels_BT[:, 1:]
    chosen_BT = targets_BT != IGNORED
    return cross_entropy(logits_BTV[:, :-1][chosen_BT].float(), targets_BT[chosen_BT])


def gradient_norm(gradients: Sequence[Tensor]) -> float:
    """The Euclidean norm over all tensors.

    Raises:
        NonFiniteLossError: it is not finite.
    """
    norm = float(torch.nn.utils.get_total_norm(list(gradients))) if gradients else 0.0
    if not math.isfinite(norm):
        raise NonFiniteLossError("The gradient is not finite.")
    return norm


def _accumulate(adapter: Adapter, gradients: dict[str, Tensor], pieces: int) -> None:
    for name, gradient in gradients.items():
        if name in adapter.gradients:
            adapter.gradients[name].add_(gradient)
        else:
            adapter.gradients[name] = gradient
    adapter.calls += 1
    adapter.micro_batches += pieces


def optim_step(adapter: Adapter, op_seq: int, learning_rate: float | None = None) -> float:
    """Apply the accumulated gradient, divided by the number of calls, by AdamW; the learning rate that was used.

    So n calls and a step are the hand-written loop with ``(loss / n).backward()`` n times.

    Raises:
        EmptyGradientError: nothing is accumulated.
        NonFiniteLossError: a weight or the optimizer would no longer be finite; nothing was changed.
    """
    if not adapter.calls:
        raise EmptyGradientError("No gradient is accumulated.")
    rate = adapter.spec.learning_rate if learning_rate is None else learning_rate
    copies = adapter.copies()
    try:
        _step(adapter, rate)
    except BaseException:
        adapter.rewind(copies)
        raise
    finally:
        adapter.optimizer.zero_grad(set_to_none=True)
    adapter.drop_gradients()
    adapter.step += 1
    adapter.through_op_seq = op_seq
    return rate


def _step(adapter: Adapter, rate: float) -> None:
    for group in adapter.optimizer.param_groups:
        group["lr"] = rate
    for name, gradient in adapter.gradients.items():
        adapter.parameters[name].grad = gradient / adapter.calls
    adapter.optimizer.step()
    if not adapter.is_finite():
        raise NonFiniteLossError("After the step a weight would not be a finite number.")
