"""Rows that wait to be generated: those of the tenant, the run and the job that were served the longest ago come first.

So a tenant with many runs, or a run with many jobs, has no more turns than one with a single one.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processors.trainer.sampling.rows import Row

Place = tuple[str | bytes, ...]
"""A tenant; a tenant and a run; both and a job."""


class Waiting:
    """Rows by job, in the order in which they take turns."""

    def __init__(self) -> None:
        self._rows: dict[Place, deque[Row]] = {}
        self._served: dict[Place, int] = {}
        self._turn = 0

    def __bool__(self) -> bool:
        """Whether any row waits."""
        return bool(self._rows)

    def __iter__(self) -> Iterator[Row]:
        """All rows that wait."""
        for rows in self._rows.values():
            yield from rows

    def add(self, rows: Sequence[Row]) -> None:
        """Let the rows of a job wait."""
        self._rows[_place(rows[0])] = deque(rows)

    @property
    def first(self) -> Row:
        """The row whose turn it is; there must be one."""
        return self._rows[self._next()][0]

    def take(self) -> Row:
        """The row whose turn it is, which waits no longer."""
        place = self._next()
        self._turn += 1
        self._served |= dict.fromkeys(_levels(place), self._turn)
        row = self._rows[place].popleft()
        if not self._rows[place]:
            self._forget(place)
        return row

    def drop(self, operation_id: bytes) -> None:
        """Forget the rows of a job."""
        for place in [each for each in self._rows if each[-1] == operation_id]:
            self._forget(place)

    def _next(self) -> Place:
        return min(self._rows, key=lambda place: [self._served.get(level, 0) for level in _levels(place)])

    def _forget(self, place: Place) -> None:
        """A job does not come back. Tenants and runs do, and are remembered as long as anybody waits."""
        del self._rows[place]
        self._served.pop(place, None)
        if not self._rows:
            self._served.clear()


def _place(row: Row) -> Place:
    return (*row.job.owner, row.job.operation_id)


def _levels(place: Place) -> list[Place]:
    return [place[:length] for length in range(1, len(place) + 1)]
