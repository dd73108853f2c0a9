"""The time of records: never backwards in a chain, and no leap ahead that nobody vouches for.

A record's time cannot be taken back, so a clock that is once set to the year 2099 would mark a chain for good. While a
writer runs, its clock may run ahead of the time that has passed since its start by at most ``MAX_JUMP``. At start, when
idle time cannot be told from a wrong clock, it may be ahead of the newest record by at most ``MAX_IDLE``, unless an
operator accepts it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from producers.clock import DAY, Clock
from producers.errors import ClockError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_JUMP = DAY
MAX_IDLE = 366 * DAY
_ELAPSING = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_clock() -> int:
    """Microseconds that only ever run, also while the machine sleeps; their zero means nothing."""
    return time.clock_gettime_ns(_ELAPSING) // 1_000


class Timekeeper:
    """A clock that is checked against the time that has passed; all values are microseconds."""

    def __init__(self, clock: Clock, elapsed: Callable[[], int] = elapsed_clock) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._started_at: int | None = None
        self._elapsed_at_start = 0

    def start(self, newest: int, *, accept: bool = False) -> None:
        """Trust the clock from here on; ``newest`` is the time of the newest record of all chains, 0 if there is none.

        Raises:
            ClockError: the clock is more than ``MAX_IDLE`` ahead of it, and nobody accepts that.
        """
        now = self._clock()
        if newest and now > newest + MAX_IDLE and not accept:
            raise ClockError("The clock is over a year ahead of the ledger's newest record.")
        self._started_at, self._elapsed_at_start = now, self._elapsed()

    def now(self, last: int) -> int:
        """The time of a record that follows one of time ``last``.

        Raises:
            ClockError: the clock has leapt ahead.
        """
        wall = self._clock()
        passed = self._elapsed() - self._elapsed_at_start
        if self._started_at is not None and wall > max(last, self._started_at + passed) + MAX_JUMP:
            raise ClockError("The clock has leapt more than a day ahead while the server was running.")
        return max(wall, last)
