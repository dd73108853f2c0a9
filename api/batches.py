"""Whether a batch can be trained on, before anything is written about it. Pure; errors name places, never values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.errors import ApiError

IGNORED = -100
"""The label that asks for no loss."""
FIELDS = ("input_ids", "attention_mask", "labels")
WEIGHTS = "weights"
LARGEST_WEIGHT = 1e6
Rows = Sequence[Sequence[int]]
Weights = Sequence[Sequence[float]]


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
    weights: Weights | None = None

    @property
    def rows(self) -> int:
        """How many sequences."""
        return len(self.input_ids)

    def to_dict(self) -> dict[str, Rows | Weights]:
        """The value whose canonical bytes are committed to."""
        named = FIELDS if self.weights is None else (*FIELDS, WEIGHTS)
        return {name: getattr(self, name) for name in named}


def check(fields: Mapping[str, Any], limits: BatchLimits) -> Batch:
    """The batch of a request.

    Raises:
        ApiError: wrong_dtype, empty_batch, ragged_batch, batch_too_large, sequence_too_long, token_out_of_vocabulary or
            invalid_request.
    """
    for name in FIELDS:
        _check_rows(name, fields[name])
    ids, mask, labels = (fields[name] for name in FIELDS)
    _check_shape(ids, mask, labels)
    _check_values(ids, mask, labels, limits.vocabulary)
    weights = _checked_weights(fields.get(WEIGHTS), ids)
    _check_size(ids, mask, limits)
    _check_something_to_learn(mask, labels, weights)
    return Batch(ids, mask, labels, tokens=sum(map(sum, mask)), weights=weights)


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


def _checked_weights(rows: Any, ids: Rows) -> Weights | None:
    if rows is None:
        return None
    if type(rows) is not list or set(map(type, rows)) - {list}:
        raise ApiError("wrong_dtype", "batch.weights is not a list of lists.")
    if len(rows) != len(ids):
        raise ApiError("ragged_batch", "input_ids and weights have different numbers of rows.")
    for number, row in enumerate(rows):
        if set(map(type, row)) - {int, float}:
            raise ApiError("wrong_dtype", f"batch.weights, row {number}, holds something that is no number.")
        if len(row) != len(ids[0]):
            raise ApiError("ragged_batch", f"batch.weights, row {number}, has {len(row)} columns, not {len(ids[0])}.")
        if not all(0 <= weight <= LARGEST_WEIGHT for weight in row):
            raise ApiError("invalid_request", f"batch.weights, row {number}: weights go from 0 to 1,000,000.")
    return rows


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


def _check_something_to_learn(mask: Rows, labels: Rows, weights: Weights | None) -> None:
    """A label counts where its token is attended to, has one before it to be predicted from, and weighs something."""
    for number, (mask_row, label_row) in enumerate(zip(mask, labels, strict=True)):
        weight_row = weights[number] if weights else mask_row
        columns = zip(mask_row, label_row, weight_row, strict=True)
        attended = [label if weight else IGNORED for seen, label, weight in columns if seen]
        if set(attended[1:]) - {IGNORED}:
            return
    raise ApiError(
        "empty_batch",
        f"No row has a label that counts: all are {IGNORED}, masked, of a row's first token, or of weight 0.",
    )
