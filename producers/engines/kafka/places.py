"""Positions of the intake: one number that names the partition and the place in it."""

from __future__ import annotations

_OFFSET_BITS = 48
_OFFSETS = (1 << _OFFSET_BITS) - 1


def position_of(partition: int, offset: int) -> int:
    """The position of the entry at an offset: above 0, growing along the partition, and no other partition's."""
    return (partition << _OFFSET_BITS) + offset + 1


def partition_of(position: int) -> int:
    """The partition that a position is in."""
    return position >> _OFFSET_BITS


def offset_after(position: int) -> int:
    """The offset behind the entry at a position: where reading goes on; 0 for position 0."""
    return position & _OFFSETS
