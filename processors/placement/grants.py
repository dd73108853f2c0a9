"""What was granted lately, by all dispatchers of a process: standings show it only a little later."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.placement.choice import Grant

SHOWN_SECONDS = 10.0
"""So long after a grant its trainer's standing need not show it yet."""


class Grants:
    """The grants of the last seconds, counted; any thread may call."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._given: deque[tuple[float, Grant]] = deque()
        self._counted: Counter[Grant] = Counter()

    def add(self, grant: Grant) -> None:
        """A run was given to a trainer."""
        with self._lock:
            self._given.append((self._seconds(), grant))
            self._counted[grant] += 1

    def recent(self) -> Counter[Grant]:
        """Those that need not show yet."""
        with self._lock:
            end = self._seconds() - SHOWN_SECONDS
            while self._given and self._given[0][0] <= end:
                _, grant = self._given.popleft()
                self._counted[grant] -= 1
            self._counted += Counter()  # without those of which none is left
            return self._counted.copy()
