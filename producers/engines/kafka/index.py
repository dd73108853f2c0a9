"""Where in its topic a record lies: a sparse index, and the arithmetic of searching with it.

Each record takes one offset, and so do transaction markers and the records of aborted transactions. So a record's
offset is its seq plus a gap that never shrinks along the chain: what is known of one record bounds all others.
"""

from __future__ import annotations

import sys
from bisect import bisect_right, insort
from dataclasses import dataclass, field

_STEP = 1024
NEAR = 512
"""So many offsets are read over sooner than searched in."""


@dataclass
class Index:
    """Known places of one chain: pairs of seq and offset, sorted."""

    _places: list[tuple[int, int]] = field(default_factory=list)

    def note(self, seq: int, offset: int, *, always: bool = False) -> None:
        """Learn where a record lies; one that is close to a known one is passed over unless ``always``."""
        at = bisect_right(self._places, (seq, offset))
        before = self._places[at - 1][0] if at else -_STEP
        after = self._places[at][0] if at < len(self._places) else seq + _STEP
        if (always and seq not in (before, after)) or (seq - before >= _STEP and after - seq >= _STEP):
            insort(self._places, (seq, offset))

    def gaps(self, seq: int, size: int, end: int) -> tuple[int, int]:
        """The least and greatest gap that the record ``seq`` can have in a topic of so many records and offsets."""
        at = bisect_right(self._places, (seq, end))
        low = self._places[at - 1] if at else (0, 0)
        high = self._places[at] if at < len(self._places) else (size, end)
        return _gap(low), max(_gap(high), _gap(low))

    def near(self, seq: int) -> int | None:
        """An offset that the record ``seq`` follows within ``NEAR``, where that is known without a search."""
        at = bisect_right(self._places, (seq, sys.maxsize))
        low = self._places[at - 1] if at else (0, 0)
        if low[0] == seq:
            return low[1]
        if at == len(self._places) or _gap(self._places[at]) - _gap(low) > NEAR:
            return None
        return seq + _gap(low)


def _gap(place: tuple[int, int]) -> int:
    return place[1] - place[0]
