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
    """One example without padding: token ids and, per position, its label or ``IGNORED``."""

    tokens: tuple[int, ...]
    labels: tuple[int, ...]


def parse_batch(data: bytes) -> list[Row]:
    """The rows of a batch's canonical bytes.

    Raises:
        OperationFailedError: the bytes are no batch.
    """
    try:
        value = json.loads(data)
        columns = zip(value["input_ids"], value["attention_mask"], value["labels"], strict=True)
        return [_attended(*column) for column in columns]
    except (ValueError, KeyError, TypeError) as error:
        raise OperationFailedError("The input is no batch.") from error


def _attended(tokens: Sequence[int], mask: Sequence[int], labels: Sequence[int]) -> Row:
    kept = [(token, label) for token, attend, label in zip(tokens, mask, labels, strict=True) if attend]
    return Row(tuple(token for token, _ in kept), tuple(label for _, label in kept))


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
