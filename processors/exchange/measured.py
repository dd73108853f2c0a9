"""What trainers measured, summed up at the hub, so that every door tells the same figures."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from processors.measures import Measures

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds in seconds of the buckets that times are counted in; the last one has none."""
MAX_NAMES = 64


@dataclass(frozen=True, slots=True)
class Histogram:
    """Times of one name: how many fell into each bucket of ``BOUNDS`` and behind the last, and their sum in seconds."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total: float = 0.0

    def cumulative(self) -> list[tuple[str, float]]:
        """Each bound, as Prometheus writes it, with the number of times up to it."""
        bounds = [*(str(bound) for bound in BOUNDS), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self.counts)), strict=True))


@dataclass
class _Times:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class Measured:
    """Sums of times over all trainers there ever were; levels of those that are there. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[str, _Times] = {}
        self._levels: dict[int, Mapping[str, float]] = {}

    def add(self, trainer: int, measures: Measures) -> None:
        """A trainer reported; names beyond the first so many are left out."""
        with self._lock:
            for name, listed in measures.times.items():
                if name in self._times or len(self._times) < MAX_NAMES:
                    times = self._times.setdefault(name, _Times())
                    for seconds in listed:
                        times.add(seconds)
            self._levels[trainer] = dict(list(measures.levels.items())[:MAX_NAMES])

    def gone(self, trainer: int) -> None:
        """A trainer is gone, and with it what it held."""
        with self._lock:
            self._levels.pop(trainer, None)

    def times(self) -> dict[str, Histogram]:
        """The times of each name."""
        with self._lock:
            return {name: Histogram(tuple(each.counts), each.total) for name, each in self._times.items()}

    def levels(self) -> dict[str, float]:
        """Each level, summed up over the trainers."""
        found: dict[str, float] = {}
        with self._lock:
            for levels in self._levels.values():
                for name, level in levels.items():
                    found[name] = found.get(name, 0.0) + level
        return found
