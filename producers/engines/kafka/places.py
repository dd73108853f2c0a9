"""Positions of the intake: one number that names the partition and the place in it; and places of records."""

from __future__ import annotations

_OFFSET_BITS = 48
_OFFSETS = (1 << _OFFSET_BITS) - 1
_SEQ_DIGITS = 18
"""More than any seq has; with them it is still a number of Avro's."""


def position_of(partition: int, offset: int) -> int:
    """The position of the entry at an offset: above 0, growing along the partition, and no other partition's."""
    return (partition << _OFFSET_BITS) + offset + 1


def partition_of(position: int) -> int:
    """The partition that a position is in."""
    return position >> _OFFSET_BITS


def offset_after(position: int) -> int:
    """The offset behind the entry at a position: where reading goes on; 0 for position 0."""
    return position & _OFFSETS


def seq_of(key: bytes | str | None) -> int | None:
    """The seq that a message's key says; None if it says none."""
    return int(key) if key is not None and key.isdigit() and len(key) <= _SEQ_DIGITS else None
