"""From the model's output to tokens: penalty, temperature, cuts, draw. The order is that of transformers.

Every row has its own generator, always on the CPU, and each token takes one exponential number per vocabulary entry
from it: the token with the largest ratio of probability to number is drawn (the exponential form of the Gumbel-max
trick, as torch.multinomial does it). Which numbers a token gets depends on the row alone, and a token changes only if
two candidates are as good as equal: rounding in the last bits, which differs between batch shapes, seldom shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from processors.trainer.sampling.rows import Row


def draw(logits_RV: Tensor, rows: Sequence[Row]) -> list[int]:
    """The next token of each row, from finite float32 logits on the CPU of shape (rows, vocabulary)."""
    logits_RV = penalised(logits_RV, rows)
    tokens = logits_RV.argmax(-1).tolist()
    warm = [index for index, row in enumerate(rows) if row.sampling.temperature > 0]
    if warm:
        drawn = _drawn(logits_RV[warm], [rows[index] for index in warm])
        for index, token in zip(warm, drawn.tolist(), strict=True):
            tokens[index] = token
    return [int(token) for token in tokens]


def _drawn(logits_RV: Tensor, rows: Sequence[Row]) -> Tensor:
    chances_RV = chances(logits_RV, rows)
    noise_RV = torch.empty_like(chances_RV)
    for noise_V, row in zip(noise_RV, rows, strict=True):
        noise_V.exponential_(generator=row.generator)
    return (chances_RV / noise_RV).argmax(-1)


def chances(logits_RV: Tensor, rows: Sequence[Row]) -> Tensor:
    """What each token weighs after temperature, top-k, top-p and min-p; the weights of a row need not sum to one."""
    wanted = [row.sampling for row in rows]
    weights_RV = warmed(logits_RV, [each.temperature for each in wanted])
    if any(each.top_k for each in wanted):
        weights_RV = likeliest(weights_RV, logits_RV, [each.top_k for each in wanted])
    if any(each.top_p < 1 for each in wanted):
        weights_RV = nucleus(weights_RV, [each.top_p for each in wanted])
    if any(each.min_p > 0 for each in wanted):
        least_R1 = _column([each.min_p for each in wanted]) * weights_RV.amax(-1, keepdim=True)
        weights_RV = weights_RV.masked_fill(weights_RV < least_R1, 0.0)
    return weights_RV


def penalised(logits_RV: Tensor, rows: Sequence[Row]) -> Tensor:
    """Logits in which every token of a row's prompt and completion is weaker by its penalty; a copy if any is."""
    if all(row.sampling.repetition_penalty == 1 for row in rows):
        return logits_RV
    logits_RV = logits_RV.clone()
    for index, row in enumerate(rows):
        penalty = row.sampling.repetition_penalty
        if penalty != 1:
            seen = torch.tensor(sorted(row.seen))
            scores = logits_RV[index, seen]
            logits_RV[index, seen] = torch.where(scores < 0, scores * penalty, scores / penalty)
    return logits_RV


def warmed(logits_RV: Tensor, temperatures: Sequence[float]) -> Tensor:
    """Probabilities at temperatures above zero, however small: the likeliest logit is shifted to zero first."""
    shifted_RV = (logits_RV - logits_RV.amax(-1, keepdim=True)).double() / _column(temperatures).double()
    return torch.softmax(shifted_RV, dim=-1).to(logits_RV.dtype)


def likeliest(weights_RV: Tensor, logits_RV: Tensor, top_k: Sequence[int]) -> Tensor:
    """Probabilities of the ``top_k`` likeliest tokens (0: of all), and of those that equal the last of them."""
    kept_RV = weights_RV.clone()
    for index, count in enumerate(top_k):
        if 0 < count < logits_RV.shape[-1]:
            least = logits_RV[index].topk(count).values[-1]
            kept_RV[index].masked_fill_(logits_RV[index] < least, 0.0)
    return kept_RV / kept_RV.sum(-1, keepdim=True)


def nucleus(weights_RV: Tensor, top_p: Sequence[float]) -> Tensor:
    """Probabilities with everything outside of the smallest likeliest set of mass ``top_p`` set to zero."""
    ordered_RV, index_RV = weights_RV.sort(descending=True, stable=True)
    # Less than the smallest number would be zero here, and leave no token to draw; and a whole nucleus is left alone.
    least_R1 = _column([each if each < 1 else 2.0 for each in top_p]).clamp(min=torch.finfo(ordered_RV.dtype).tiny)
    ordered_RV = ordered_RV.masked_fill(ordered_RV.cumsum(-1) - ordered_RV >= least_R1, 0.0)
    return torch.zeros_like(weights_RV).scatter(-1, index_RV, ordered_RV)


def _column(numbers: Sequence[float]) -> Tensor:
    # In 64 bits: the smallest temperatures and masses are zero in 32.
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(-1)
