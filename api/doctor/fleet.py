"""The processes of a server on Kafka: which run on this machine, and whether another server is in their way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.doctor.findings import Finding, ok, warning
from api.roll import alive, rolls
from producers.clock import system_clock
from producers.sequencer.standby import Fencings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.settings import Settings

MANY_STARTS = 5
"""So often a process that keeps dying was started soon; one that is killed now and then is not in months."""


def look(data_dir: Path, settings: Settings) -> Iterator[Finding]:
    """Everything about the processes."""
    yield from processes(data_dir, settings)
    yield from rivals(data_dir, settings)


def processes(data_dir: Path, settings: Settings) -> Iterator[Finding]:
    """Those that a supervisor should keep here do run, and not anew all the time."""
    found = rolls(data_dir)
    if not found:
        yield ok("processes", f"None runs on this machine; a server would start {_wanted(settings)}.")
        return
    running = {name: pid for roll in found for name, pid in roll.running.items()}
    ended = sorted(name for name, pid in running.items() if pid is None or not alive(pid))
    often = sorted(name for roll in found for name, count in roll.starts.items() if count > MANY_STARTS)
    if ended:
        yield warning("processes", f"{', '.join(ended)} ended just now.", "See the server's log for why.")
    elif often:
        yield warning("processes", f"{', '.join(often)} were started again and again.", "See the server's log for why.")
    else:
        yield ok("processes", f"{len(running)} run here: {', '.join(sorted(running))}.")


def rivals(data_dir: Path, settings: Settings) -> Iterator[Finding]:
    """Partitions that a server with another data directory has taken from this one."""
    partitions = range(settings.intake_partitions)
    taken = [str(each) for each in partitions if Fencings(data_dir, each, system_clock).often()]
    if taken:
        yield warning(
            "sequencers",
            f"Another server has taken partition {', '.join(taken)} of the intake again and again.",
            "Stop one of the two: one decides, the other stands by, and each keeps its own blobs.",
        )


def _wanted(settings: Settings) -> str:
    counts = {
        "sequencers": settings.intake_partitions,
        "trainers": settings.trainers,
        "workers": settings.workers,
        "API processes": settings.api_processes,
    }
    return f"a signer, and so many {', '.join(f'{name}: {count}' for name, count in counts.items())}"
