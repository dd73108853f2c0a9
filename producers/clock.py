"""The one place that asks the machine for the time."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Microseconds since the epoch."""

SECOND = 1_000_000
DAY = 86_400 * SECOND


def system_clock() -> int:
    """The machine's time in microseconds since the epoch."""
    return time.time_ns() // 1_000
