"""What is computed with an adapter: a gradient to accumulate, a step that applies it, an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from processors.trainer.batch import IGNORED, Row, check_rows, collate, collate_weights
from processors.trainer.errors import EmptyGradientError, NonFiniteLossError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor
    from torch.nn import Module

    from processors.trainer.adapter import Adapter
    from processors.trainer.base_model import SharedBase

MAX_LOGITS = 1 << 27
"""How many logits are in memory at once: half a gigabyte, and a few times that while they are worked on."""


@dataclass(frozen=True, slots=True)
class Gradient:
    """What one forward_backward call did: mean loss per target token, norm of its gradient, attended tokens."""

    loss: float
    grad_norm: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one forward call found: mean loss per target token, attended tokens, each token's log-probability.

    ``logprobs`` has a row of the batch's width for each of its rows: the natural logarithm of the probability of the
    token there given those before it; None at a row's first token and where nothing is attended to.
    """

    loss: float
    tokens: int
    logprobs: list[list[float | None]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did: its learning rate, the norm of its gradient before clipping, and whether that was clipped."""

    learning_rate: float
    grad_norm: float
    clipped: bool


def forward_backward(adapter: Adapter, rows: Sequence[Row], seed: int) -> Gradient:
    """Add the gradient of a batch's mean token cross-entropy, weighted if it has weights, to what is accumulated.

    A batch that is large for its model goes through it in pieces: memory depends on the largest piece only.

    Raises:
        TokenOutOfVocabularyError, SequenceTooLongError: the batch does not fit the model.
        NonFiniteLossError: loss or gradient is not finite (no target at all included); nothing was accumulated.
    """
    base = adapter.base
    check_rows(rows, base.vocabulary, base.max_positions)
    model = base.activate(adapter.name, training=True)
    torch.manual_seed(seed)
    pieces, total = micro_batches(rows, MAX_LOGITS // base.vocabulary), sum(row.weight for row in rows)
    loss = 0.0 if total else math.nan
    try:
        for piece in pieces if total else ():
            loss += _backward(model, base.device, piece, total)
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


def _backward(model: Module, device: torch.device, rows: Sequence[Row], total: float) -> float:
    """Backpropagate a piece's share of its batch's loss, whose targets weigh ``total``; that share's value."""
    if not any(row.weight for row in rows):
        return 0.0
    tokens_BT, mask_BT, labels_BT = collate(rows, device)
    logits_BTV = model(input_ids=tokens_BT, attention_mask=mask_BT, use_cache=False).logits
    loss = token_loss(logits_BTV, labels_BT, collate_weights(rows, device)) / total
    torch.autograd.backward(loss)
    return loss.item()


def token_loss(logits_BTV: Tensor, labels_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
    """Cross-entropy of each next token that is a target, in float32, times its weight, as the sum over all of them."""
    targets_BT = labels_BT[:, 1:]
    chosen_BT = targets_BT != IGNORED
    logits_NV, targets_N = logits_BTV[:, :-1][chosen_BT].float(), targets_BT[chosen_BT]
    if weights_BT is None:
        return cross_entropy(logits_NV, targets_N, reduction="sum")
    return (cross_entropy(logits_NV, targets_N, reduction="none") * weights_BT[:, 1:][chosen_BT]).sum()


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


def optim_step(
    adapter: Adapter, op_seq: int, learning_rate: float | None = None, max_grad_norm: float | None = None
) -> Step:
    """Apply the accumulated gradient, divided by the number of calls and then clipped.

    So n calls and a step are the hand-written loop with ``(loss / n).backward()`` n times and ``clip_grad_norm_``.
    Where learning rate or norm is not given, the run's own holds.

    Raises:
        EmptyGradientError: nothing is accumulated.
        NonFiniteLossError: the gradient is not finite, or a weight or the optimizer would no longer be; nothing was
            changed.
    """
    if not adapter.calls:
        raise EmptyGradientError("No gradient is accumulated.")
    rate = adapter.spec.learning_rate if learning_rate is None else learning_rate
    limit = adapter.spec.max_grad_norm if max_grad_norm is None else max_grad_norm
    gradients = {name: gradient / adapter.calls for name, gradient in adapter.gradients.items()}
    norm = gradient_norm(list(gradients.values()))
    clipped = limit is not None and norm > limit
    if limit is not None and clipped:
        coefficient = limit / (norm + 1e-6)  # as torch.nn.utils.clip_grad_norm_ has it
        gradients = {name: gradient.mul_(coefficient) for name, gradient in gradients.items()}
    if adapter.is_tame(rate, norm):
        _step(adapter, gradients, rate)
    else:
        _careful_step(adapter, gradients, rate)
    adapter.drop_gradients()
    adapter.step += 1
    adapter.through_op_seq = op_seq
    return Step(rate, norm, clipped)


def _careful_step(adapter: Adapter, gradients: dict[str, Tensor], rate: float) -> None:
    """A step that may end in numbers that float32 does not hold, and is then taken back."""
    copies = adapter.copies()
    try:
        _step(adapter, gradients, rate)
        adapter.check_finite()
    except BaseException:
        adapter.rewind(copies)
        raise


def _step(adapter: Adapter, gradients: dict[str, Tensor], rate: float) -> None:
    for group in adapter.optimizer.param_groups:
        group["lr"] = rate
    try:
        for name, gradient in gradients.items():
            adapter.parameters[name].grad = gradient
        adapter.optimizer.step()
    finally:
        adapter.optimizer.zero_grad(set_to_none=True)


def forward(base: SharedBase, name: str | None, rows: Sequence[Row]) -> Evaluation:
    """Evaluate a batch with a run's part of the model, or with the bare base; nothing changes.

    Raises:
        TokenOutOfVocabularyError, SequenceTooLongError: the batch does not fit the model.
        NonFiniteLossError: loss or a log-probability is not finite (no target at all included).
    """
    check_rows(rows, base.vocabulary, base.max_positions)
    total = sum(row.weight for row in rows)
    loss, logprobs = 0.0 if total else math.nan, []
    with torch.no_grad(), base.serving([name]) as model:
        for piece in micro_batches(rows, MAX_LOGITS // base.vocabulary):
            tokens_BT, mask_BT, labels_BT = collate(piece, base.device)
            output: Any = model(input_ids=tokens_BT, attention_mask=mask_BT, use_cache=False)
            loss += float(token_loss(output.logits, labels_BT, collate_weights(piece, base.device))) / (total or 1.0)
            logprobs += list(_spread(piece, _token_logprobs(output.logits, tokens_BT)))
    if not math.isfinite(loss) or not all(math.isfinite(value) for row in logprobs for value in row if value):
        raise NonFiniteLossError("The loss or a log-probability is not a finite number.")
    return Evaluation(loss, sum(len(row.tokens) for row in rows), logprobs)


def _token_logprobs(logits_BTV: Tensor, tokens_BT: Tensor) -> list[list[float]]:
    """Log-probabilities of the tokens from the second on."""
    nll_BT = cross_entropy(logits_BTV[:, :-1].float().transpose(1, 2), tokens_BT[:, 1:], reduction="none")
    found: list[list[float]] = (-nll_BT).tolist()
    return found


def _spread(rows: Sequence[Row], logprobs: Sequence[Sequence[float]]) -> Iterator[list[float | None]]:
    """Log-probabilities at the columns where their tokens stood in the batch as it was sent."""
    for row, found in zip(rows, logprobs, strict=True):
        places = row.places if row.places is not None else range(len(row.tokens))
        spread: list[float | None] = [None] * max(row.width, len(row.tokens))
        for place, value in zip(places[1:], found, strict=False):
            spread[place] = value
        yield spread
