"""Batches as callers have them (lists, numpy arrays, torch tensors) made into lists of lists of numbers.

Arrays are known by their ``tolist`` and ``dtype`` alone, so that neither numpy nor torch is needed here. What the
server would refuse for its shape or type is refused here, before anything is sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tg_tinker.errors import EmptyBatchError, InvalidRequestError, RaggedBatchError, WrongDtypeError

FIELDS = ("attention_mask", "input_ids", "labels")
WEIGHTS = "weights"
Batch: TypeAlias = Mapping[str, Any]
"""``input_ids``, ``attention_mask`` (1 or 0) and ``labels`` (-100: does not count), each (rows, tokens).

``weights``, of the same shape and optional, are the labels' weights in the loss, from 0 on.
"""
Rows: TypeAlias = list[list[int]]
PlainBatch: TypeAlias = dict[str, list[list[Any]]]


WHOLE = ("int", "uint")
NUMBERS = (*WHOLE, "float", "bfloat")


def plain_batch(batch: Batch) -> PlainBatch:
    """The batch as plain lists.

    Raises:
        InvalidRequestError: a field is missing or unknown.
        WrongDtypeError: a value is no whole number, or a field is not (rows, tokens).
        EmptyBatchError: no rows, or a row without tokens.
        RaggedBatchError: rows or fields of different lengths.
    """
    if not isinstance(batch, Mapping) or set(batch) - {WEIGHTS} != set(FIELDS):
        raise InvalidRequestError(f"A batch is an object of {', '.join(FIELDS)} and, if you like, {WEIGHTS}.")
    plain: PlainBatch = {name: plain_rows(name, batch[name]) for name in FIELDS}
    if batch.get(WEIGHTS) is not None:
        plain[WEIGHTS] = plain_weights(batch[WEIGHTS])
    shapes = {name: (len(rows), len(rows[0])) for name, rows in plain.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {rows}x{tokens}" for name, (rows, tokens) in shapes.items())
        raise RaggedBatchError(f"The fields of the batch have different shapes: {listed}.")
    return plain


def plain_rows(name: str, value: Any) -> Rows:
    """One field as rows of one length (same errors as :func:`plain_batch`)."""
    rows = [_plain_row(name, number, row) for number, row in enumerate(_as_list(name, value))]
    if not rows or not rows[0]:
        raise EmptyBatchError(f"{name} has no {'tokens in its first row' if rows else 'rows'}.")
    if len({len(row) for row in rows}) > 1:
        raise RaggedBatchError(f"The rows of {name} have different lengths.")
    return rows


def plain_weights(value: Any) -> list[list[float]]:
    """The weights as rows of one length.

    Raises:
        WrongDtypeError: a weight is no number, or the field is not (rows, tokens).
        InvalidRequestError: a weight is negative or not finite.
        EmptyBatchError, RaggedBatchError: as for :func:`plain_batch`.
    """
    listed = _as_list(WEIGHTS, value, NUMBERS)
    rows = [_weights_row(number, row) for number, row in enumerate(listed)]
    if not rows or not rows[0]:
        raise EmptyBatchError(f"{WEIGHTS} has no {'tokens in its first row' if rows else 'rows'}.")
    if len({len(row) for row in rows}) > 1:
        raise RaggedBatchError(f"The rows of {WEIGHTS} have different lengths.")
    return rows


def _weights_row(number: int, value: Any) -> list[float]:
    return [_as_float(number, item) for item in _as_list(WEIGHTS, value, NUMBERS)]


def _plain_row(name: str, number: int, value: Any) -> list[int]:
    row = _as_list(name, value)
    kinds = set(map(type, row))
    if kinds <= {int}:
        return row
    if kinds & {list, tuple}:
        raise WrongDtypeError(f"Row {number} of {name} holds lists; a field is (rows, tokens).")
    return [_as_int(name, number, item) for item in row]


def _as_list(name: str, value: Any, kinds: tuple[str, ...] = WHOLE) -> list[Any]:
    if hasattr(value, "tolist"):
        _check_dtype(name, value, kinds)
        value = value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise WrongDtypeError(f"{name} is not (rows, tokens): a {type(value).__name__} stands where a list belongs.")
    return list(value)


def _check_dtype(name: str, array: Any, kinds: tuple[str, ...]) -> None:
    dtype = str(getattr(array, "dtype", "")).removeprefix("torch.")
    if not dtype.startswith(kinds):
        wanted = "integers" if kinds == WHOLE else "numbers"
        raise WrongDtypeError(f"{name} has the dtype {dtype or 'of no array'}, not {wanted}.")


def _as_float(number: int, item: Any) -> float:
    if isinstance(item, bool) or not (hasattr(item, "__index__") or hasattr(item, "__float__")):
        raise WrongDtypeError(f"Row {number} of {WEIGHTS} holds a {type(item).__name__}, not numbers.")
    weight = float(item)
    if not math.isfinite(weight) or weight < 0:
        raise InvalidRequestError(f"Row {number} of {WEIGHTS} holds a weight that is negative or not finite.")
    return weight


def _as_int(name: str, number: int, item: Any) -> int:
    # numpy and torch scalars are whole numbers by __index__; bool has it too, and is not meant.
    if isinstance(item, bool) or not hasattr(item, "__index__"):
        raise WrongDtypeError(f"Row {number} of {name} holds a {type(item).__name__}, not integers.")
    try:
        return int(item.__index__())
    except TypeError as error:
        raise WrongDtypeError(f"Row {number} of {name} holds a {type(item).__name__}, not integers.") from error
