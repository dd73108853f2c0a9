"""Batches: from canonical bytes to the tensors of one forward pass.

A row is cut down to its attended positions and padded on the right again. So the loss of a batch is the loss of its
unpadded rows, whichever side was padded and by how much; position ids are the natural ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from processors.trainer.errors import OperationFailedError, SequenceTooLongError, TokenOutOfVocabularyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

IGNORED = -100
"""The label of a token that is no target."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example without padding: token ids and, per position, its label or ``IGNORED``.

    ``weights`` are the labels' weights in the loss (None: all are 1); ``places`` the columns that the tokens had in
    the batch as it was sent (None: from 0 on), of ``width``.
    """

    tokens: tuple[int, ...]
    labels: tuple[int, ...]
    weights: tuple[float, ...] | None = None
    places: tuple[int, ...] | None = None
    width: int = 0

    @property
    def weight(self) -> float:
        """The weight of all its targets: their number, if nothing else is said."""
        if self.weights is None:
            return float(sum(label != IGNORED for label in self.labels[1:]))
        pairs = zip(self.labels[1:], self.weights[1:], strict=True)
        return sum(weight for label, weight in pairs if label != IGNORED)


def parse_batch(data: bytes) -> list[Row]:
    """The rows of a batch's canonical bytes.

    Raises:
        OperationFailedError: the bytes are no batch.
    """
    try:
        value = json.loads(data)
        weights = value.get("weights") or [None] * len(value["input_ids"])
        columns = zip(value["input_ids"], value["attention_mask"], value["labels"], weights, strict=True)
        return [_attended(*column) for column in columns]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OperationFailedError("The input is no batch.") from error


def _attended(
    tokens: Sequence[int], mask: Sequence[int], labels: Sequence[int], weights: Sequence[float] | None
) -> Row:
    if not len(tokens) == len(mask) == len(labels) == len(weights or mask):
        raise ValueError("ragged")
    if all(mask):  # as most batches are
        return Row(tuple(tokens), tuple(labels), tuple(weights) if weights else None, None, len(mask))
    places = tuple(place for place, attend in enumerate(mask) if attend)
    return Row(
        tuple(tokens[place] for place in places),
        tuple(labels[place] for place in places),
        tuple(weights[place] for place in places) if weights else None,
        places,
        len(mask),
    )


def check_rows(rows: Sequence[Row], vocabulary: int, max_positions: int) -> None:
    """Hold a batch against its model.

    Raises:
        TokenOutOfVocabularyError: a token or label that the model does not have.
        SequenceTooLongError: a row has more tokens than the model has positions.
    """
    for row in rows:
        if len(row.tokens) > max_positions:
            raise SequenceTooLongError(f"A row has {len(row.tokens)} tokens; the model has {max_positions} positions.")
        used = {*row.tokens, *row.labels} - {IGNORED}
        if IGNORED in row.tokens or not all(0 <= token < vocabulary for token in used):
            raise TokenOutOfVocabularyError(f"A token or label is outside of the vocabulary of {vocabulary}.")


def collate(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, attention mask and labels, padded on the right: three int64 tensors of shape (rows, longest row)."""
    longest = max((len(row.tokens) for row in rows), default=0)
    tokens_BT = torch.zeros((len(rows), longest), dtype=torch.long)
    mask_BT = torch.zeros_like(tokens_BT)
    labels_BT = torch.full_like(tokens_BT, IGNORED)
    for index, row in enumerate(rows):
        count = len(row.tokens)
        tokens_BT[index, :count] = torch.tensor(row.tokens, dtype=torch.long)
        mask_BT[index, :count] = 1
        labels_BT[index, :count] = torch.tensor(row.labels, dtype=torch.long)
    return tokens_BT.to(device), mask_BT.to(device), labels_BT.to(device)


def collate_weights(rows: Sequence[Row], device: torch.device) -> Tensor | None:
    """The labels' weights, padded with zeros: float32 of shape (rows, longest row); None if all are 1."""
    if all(row.weights is None for row in rows):
        return None
    longest = max(len(row.tokens) for row in rows)
    weights_BT = torch.zeros((len(rows), longest))
    for index, row in enumerate(rows):
        count = len(row.tokens)
        weights_BT[index, :count] = torch.tensor(row.weights or (1.0,) * count)
    return weights_BT.to(device)
