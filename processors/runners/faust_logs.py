"""What Faust and its client may log: errors alone, and of those that come many times a second one in a while."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 30.0
_FOREIGN = ("aiokafka", "faust", "mode")
_OFTEN = ("aiokafka", "aiokafka.consumer.fetcher", "aiokafka.consumer.group_coordinator")
"""They tell of every attempt to reach a broker that is away."""


class Seldom(logging.Filter):
    """Lets a message pass if it has not been seen for so many seconds, whatever its arguments are."""

    def __init__(self, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes."""
        now, before = self._clock(), self._said.get(str(record.msg))
        if before is not None and now - before < self._seconds:
            return False
        self._said[str(record.msg)] = now
        return True


def quiet() -> None:
    """Have them say that much and no more."""
    for name in _FOREIGN:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in _OFTEN:
        foreign = logging.getLogger(name)
        if not any(isinstance(each, Seldom) for each in foreign.filters):
            foreign.addFilter(Seldom())
