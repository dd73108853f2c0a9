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

    from torch import Tensor

    from processors.trainer.adapter import Adapter


@dataclass(frozen=True, slots=True)
class Gradient:
    """What one forward_backward call did: mean loss per target token, norm of its gradient, attended tokens."""

    loss: float
    grad_norm: float
    tokens: int


def forward_backward(adapter: Adapter, rows: Sequence[Row], seed: int) -> Gradient:
    """Add the gradient of a batch's mean token cross-entropy to what is accumulated.

    Raises:
        TokenOutOfVocabularyError, SequenceTooLongError: the batch does not fit the model.
        NonFiniteLossError: loss or gradient is not finite (no target at all included); nothing was accumulated.
    """
    base = adapter.base
    check_rows(rows, base.vocabulary, base.max_positions)
    model = base.activate(adapter.name, training=True)
    torch.manual_seed(seed)
    tokens_BT, mask_BT, labels_BT = collate(rows, base.device)
    try:
        logits_BTV = model(input_ids=tokens_BT, attention_mask=mask_BT, use_cache=False).logits
        loss = mean_token_loss(logits_BTV, labels_BT)
        if not math.isfinite(value := loss.item()):
            raise NonFiniteLossError("The loss is not a finite number.")
        torch.autograd.backward(loss)
        gradients = {name: p.grad for name, p in adapter.parameters.items() if p.grad is not None}
    finally:
        adapter.optimizer.zero_grad(set_to_none=True)
    norm = gradient_norm(list(gradients.values()))
    _accumulate(adapter, gradients)
    return Gradient(value, norm, int(mask_BT.sum()))


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


def _accumulate(adapter: Adapter, gradients: dict[str, Tensor]) -> None:
    for name, gradient in gradients.items():
        if name in adapter.gradients:
            adapter.gradients[name].add_(gradient)
        else:
            adapter.gradients[name] = gradient
    adapter.calls += 1


def optim_step(adapter: Adapter, op_seq: int, learning_rate: float | None = None) -> float:
    """Apply the accumulated gradient, divided by the number of calls, by AdamW; the learning rate that was used.

    So n calls and a step are the hand-written loop with ``(loss / n).backward()`` n times.

    Raises:
        EmptyGradientError: nothing is accumulated.
    """
    if not adapter.calls:
        raise EmptyGradientError("No gradient is accumulated.")
    rate = adapter.spec.learning_rate if learning_rate is None else learning_rate
    for group in adapter.optimizer.param_groups:
        group["lr"] = rate
    for name, gradient in adapter.gradients.items():
        adapter.parameters[name].grad = gradient.div_(adapter.calls)
    adapter.optimizer.step()
    adapter.optimizer.zero_grad(set_to_none=True)
    adapter.drop_gradients()
    adapter.step += 1
    adapter.through_op_seq = op_seq
    return rate
