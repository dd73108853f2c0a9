"""What a trainer measured, on its way to the hub, which sums it up: seconds since the last report, and levels.

One that dies takes at most a second of measures with it; what it had reported stays counted, and its levels go.
"""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from processors.exchange.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REPORT_SECONDS = 1.0
MAX_TIMES = 10_000
MAX_NAME = 64


@dataclass(frozen=True, slots=True)
class Measures:
    """``times`` are seconds that work of each name took, one by one; ``levels`` what stands at so much now."""

    times: Mapping[str, Sequence[float]] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """As they travel."""
        return json.dumps({"times": self.times, "levels": self.levels}, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Measures:
        """As they came.

        Raises:
            ExchangeError: they are no measures.
        """
        try:
            value = json.loads(data)
            times = {_name(name): [_number(each) for each in listed] for name, listed in value["times"].items()}
            levels = {_name(name): _number(level) for name, level in value["levels"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ExchangeError("A trainer reported what are no measures.") from error
        return cls(times, levels)


class Meter:
    """Gathers what a trainer measures and reports it once a second at most. Any thread may measure.

    ``report`` takes a report's bytes; ``levels`` are asked for with each report.
    """

    def __init__(
        self,
        report: Callable[[bytes], None],
        levels: Callable[[], Mapping[str, float]] = dict,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = report
        self._levels = levels
        self._seconds = seconds
        self._lock = threading.Lock()
        self._times: dict[str, list[float]] = {}
        self._due = seconds()

    def took(self, name: str, seconds: float) -> None:
        """Something of this name took so many seconds."""
        with self._lock:
            kept = self._times.setdefault(name, [])
            if len(kept) < MAX_TIMES:
                kept.append(seconds)

    def tell(self, *, now: bool = False) -> None:
        """Report if it is time, or ``now``; only the thread that may ask for levels calls this."""
        at = self._seconds()
        if not now and at < self._due:
            return
        self._due = at + REPORT_SECONDS
        with self._lock:
            times, self._times = self._times, {}
        self._report(Measures(times, self._levels()).to_bytes())


def _name(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME:
        raise TypeError
    return value


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError
    return number
