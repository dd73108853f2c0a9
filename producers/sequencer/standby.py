"""Two sequencers of one partition on two machines: the one that is fenced again and again stands by.

Taking the role fences its holder, so two that are both started again would take it from each other for ever. One that
was fenced by a rival twice in a short time leaves the role to it, for as long as that one decides what comes in.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import structlog

from producers.clock import SECOND
from producers.files import replace_file

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from producers.clock import Clock
    from producers.engines.port import LogEngine

SHORT_SECONDS = 600
OFTEN = 2
LEAST_SECONDS, MOST_SECONDS = 5.0, 60.0
LOOK_SECONDS = 0.5
_log = structlog.get_logger("sequencer")


class Fencings:
    """When rivals took the role of a partition from this installation, as a file that outlives the process."""

    def __init__(self, data_dir: Path, partition: int, clock: Clock) -> None:
        self._path = data_dir / "run" / f"fenced-{partition}.json"
        self._clock = clock

    def note(self) -> None:
        """It happened now."""
        replace_file(self._path, json.dumps([*self._lately(), self._clock()]).encode())

    def often(self) -> bool:
        """Whether it happened at least twice lately."""
        return self.patience() > 0

    def patience(self) -> float:
        """Seconds for which commands must stay undecided before the role is taken again; more after each fencing."""
        count = len(self._lately())
        return 0.0 if count < OFTEN else min(LEAST_SECONDS * 2.0 ** (count - OFTEN), MOST_SECONDS)

    def _lately(self) -> list[int]:
        try:
            times = [int(each) for each in json.loads(self._path.read_bytes())]
        except (OSError, ValueError, TypeError):  # no file, or one that a full disk cut off
            return []
        return [each for each in times if abs(self._clock() - each) < SHORT_SECONDS * SECOND]


def stand_by(
    engine: LogEngine, stop: threading.Event, patience: float, seconds: Callable[[], float] = time.monotonic
) -> None:
    """Return when a command has stayed in the intake undecided for so many seconds, or when told to stop."""
    waits_at, since = -1, 0.0
    while not stop.is_set():
        position = engine.intake_position()
        if not engine.intake(position, 1):
            waits_at = -1
            engine.wait_intake(position, LOOK_SECONDS)
        elif position != waits_at:
            waits_at, since = position, seconds()
        elif seconds() - since >= patience:
            return
        else:
            stop.wait(LOOK_SECONDS)
