"""Two sequencers of one partition on two machines: the one that is fenced again and again stands by.

Taking the role fences its holder, so two that are both started again would take it from each other for ever. One that
was fenced by a rival twice in a short time leaves the role to it, for as long as that one decides what comes in.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from producers.clock import SECOND
from producers.files import replace_file

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from pathlib import Path

    from producers.clock import Clock
    from producers.engines.port import LogEngine

SHORT_SECONDS = 600
PAUSES = (5.0, 10.0, 20.0, 40.0, 60.0)
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
        return len(self._lately()) > 1

    def forget(self) -> None:
        """The rival is gone."""
        self._path.unlink(missing_ok=True)

    def _lately(self) -> list[int]:
        try:
            times = [int(each) for each in json.loads(self._path.read_bytes())]
        except (OSError, ValueError, TypeError):  # no file, or one that a full disk cut off
            return []
        return [each for each in times if abs(self._clock() - each) < SHORT_SECONDS * SECOND]


def stand_by(engine: LogEngine, stop: threading.Event, pauses: Sequence[float] = PAUSES) -> None:
    """Return when commands stay in the intake undecided for a pause, or when told to stop; the pauses grow."""
    looks = 0
    while not stop.is_set():
        position = engine.intake_position()
        waiting = bool(engine.intake(position, 1))
        stop.wait(pauses[min(looks, len(pauses) - 1)])
        if waiting and engine.intake_position() == position:
            return
        looks += 1
