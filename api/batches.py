"""Whether a batch can be trained on, before anything is written about it. Pure; errors name places, never values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import ApiError

IGNORED = -100
"""The label that asks for no loss."""
FIELDS = ("input_ids", "attention_mask", "labels")
Rows = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one call may bring. ``vocabulary`` and ``positions`` are the model's, the others the server's."""

    vocabulary: int
    positions: int
    rows: int = 1024
    tokens: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that holds together; ``tokens`` are those that are attended to."""

    input_ids: Rows
    attention_mask: Rows
    labels: Rows
    tokens: int

    @property
    def rows(self) -> int:
        """How many sequences."""
        return len(self.input_ids)

    def to_dict(self) -> dict[str, Rows]:
        """The value whose canonical bytes are committed to."""
        return {name: getattr(self, name) for name in FIELDS}


def check(fields: Mapping[str, Any], limits: BatchLimits) -> Batch:
    """The batch of a request.

    Raises:
        ApiError: wrong_dtype, empty_batch, ragged_batch, batch_too_large, sequence_too_long or token_out_of_vocabulary.
    """
    for name in FIELDS:
        _check_rows(name, fields[name])
    ids, mask, labels = (fields[name] for name in FIELDS)
    _check_shape(ids, mask, labels)
    _check_values(ids, mask, labels, limits.vocabulary)
    _check_size(ids, mask, limits)
    _check_something_to_learn(mask, labels)
    return Batch(ids, mask, labels, tokens=sum(map(sum, mask)))


def _check_rows(name: str, rows: Any) -> None:
    if type(rows) is not list or set(map(type, rows)) - {list}:
        raise ApiError("wrong_dtype", f"batch.{name} is not a list of lists.")
    for number, row in enumerate(rows):
        if set(map(type, row)) - {int}:  # bool is a subclass of int, and is not meant
            raise ApiError("wrong_dtype", f"batch.{name}, row {number}, holds something that is no integer.")


def _check_shape(ids: Rows, mask: Rows, labels: Rows) -> None:
    if not ids or not ids[0]:
        raise ApiError("empty_batch", "The batch has no tokens.")
    if not len(ids) == len(mask) == len(labels):
        raise ApiError("ragged_batch", "input_ids, attention_mask and labels have different numbers of rows.")
    for name, rows in zip(FIELDS, (ids, mask, labels), strict=True):
        for number, row in enumerate(rows):
            if len(row) != len(ids[0]):
                raise ApiError(
                    "ragged_batch", f"batch.{name}, row {number}, has {len(row)} columns, not {len(ids[0])}."
                )


def _check_size(ids: Rows, mask: Rows, limits: BatchLimits) -> None:
    rows, columns = len(ids), len(ids[0])
    if rows > limits.rows or rows * columns > limits.tokens:
        raise ApiError(
            "batch_too_large",
            f"{rows} rows of {columns} tokens; at most {limits.rows} rows and {limits.tokens} tokens.",
        )
    longest = max(map(sum, mask))
    if longest > limits.positions:
        raise ApiError("sequence_too_long", f"A row attends to {longest} tokens; the model takes {limits.positions}.")


def _check_values(ids: Rows, mask: Rows, labels: Rows, vocabulary: int) -> None:
    for number, (id_row, mask_row, label_row) in enumerate(zip(ids, mask, labels, strict=True)):
        if min(id_row) < 0 or max(id_row) >= vocabulary:
            raise ApiError(
                "token_out_of_vocabulary", f"batch.input_ids, row {number}: ids go from 0 to {vocabulary - 1}."
            )
        if set(mask_row) - {0, 1}:
            raise ApiError(
                "invalid_request", f"batch.attention_mask, row {number}, holds something other than 0 and 1."
            )
        if any(not 0 <= label < vocabulary for label in set(label_row) - {IGNORED}):
            raise ApiError(
                "token_out_of_vocabulary",
                f"batch.labels, row {number}: labels go from 0 to {vocabulary - 1}, or are {IGNORED} for none.",
            )


def _check_something_to_learn(mask: Rows, labels: Rows) -> None:
    """A label counts where its token is attended to and has one before it to be predicted from."""
    for mask_row, label_row in zip(mask, labels, strict=True):
        attended = [label for seen, label in zip(mask_row, label_row, strict=True) if seen]
        if set(attended[1:]) - {IGNORED}:
            return
    raise ApiError(
        "empty_batch", f"No row has a label that counts: all are {IGNORED}, masked, or of a row's first token."
    )
