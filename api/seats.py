"""The trainers' seats: each start of one is a new worker, on the roster from the start.

A seat remembers on file who sat there last. Whoever takes the seat, which is locked as long as its server lives, knows
that that one is gone: its runs need not wait until nobody has heard of it for long enough.
"""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from api.children import STEADY_SECONDS, Child, spawn
from processors.placement.standing import Standing, worker_id
from producers.locks import FileLock
from producers.settings.about import TRAINER

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from processors.exchange.hub import Hub
    from processors.placement.roster import Announcer
    from producers.installation import Installation

BRIEF_LIVES = 3
"""After so many trainers of a seat that did not last, one after another, the next one has to be ready first."""
log = structlog.get_logger(__name__)


class TrainerSeat:
    """Where one of the trainers sits. It says to the roster at once that a trainer starts, and that it died.

    It says nothing of one that will hardly last: all runs would be given to it, and taken from it, at each start.
    """

    def __init__(
        self, name: str, place: Path, installation: Installation, roster: Announcer, seconds: Callable[[], float]
    ) -> None:
        self.name = name
        self._place = place
        self._installation = installation
        self._roster = roster
        self._producer = installation.producer("worker")
        self._worker: str | None = None
        self._seconds = seconds
        self._since: float | None = None
        self._brief_lives = 0

    @property
    def worker(self) -> str | None:
        """The id of its present trainer."""
        return self._worker

    def start(self) -> subprocess.Popen[bytes]:
        """Start a trainer."""
        self.ended()
        worker = worker_id(self._producer)
        where = ("--data-dir", str(self._installation.data_dir))
        process = spawn(TRAINER, "processors.trainer", *where, "--worker-id", worker, name=self.name)
        self._worker, self._since = worker, self._seconds()
        with _tolerant():
            self._place.write_text(worker)
            if self._brief_lives < BRIEF_LIVES:
                # At once, though it takes seconds to get ready: what clients send meanwhile waits under the new lease.
                self._roster.announce(Standing(worker, self._installation.clock(), memory=self._memory))
        return process

    @property
    def _memory(self) -> int:
        return self._installation.settings.trainer_memory_bytes or 0

    def ended(self) -> None:
        """Its trainer is gone: what that held goes to others, or waits for the next one."""
        if self._since is not None:
            brief, self._since = self._seconds() - self._since < STEADY_SECONDS, None
            self._brief_lives = self._brief_lives + 1 if brief else 0
        with _tolerant():
            if self._place.exists():
                self._roster.leave(self._place.read_text())
                self._place.unlink()


class TrainerSeats:
    """As many seats as the settings ask for."""

    def __init__(
        self, installation: Installation, roster: Announcer, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        many = installation.settings.trainers
        self._locks = list(itertools.islice(_free_places(installation.data_dir / "run" / "seats"), many))
        names = ["trainer"] if many == 1 else [f"trainer-{number}" for number in range(many)]
        self._seats = [
            TrainerSeat(name, lock.path.with_suffix(".worker"), installation, roster, seconds)
            for name, lock in zip(names, self._locks, strict=True)
        ]

    def ready(self, hub: Hub) -> bool:
        """Whether there is a trainer that can execute operations: one is enough for every run to go on."""
        return any(seat.worker is not None and hub.is_ready(seat.worker) for seat in self._seats)

    def children(self, stage: int = 0) -> list[Child]:
        """What a supervisor is to keep running."""
        return [Child(seat.name, seat.start, seat.ended, stage) for seat in self._seats]

    def close(self) -> None:
        """Give the seats back."""
        for lock in self._locks:
            lock.release()


def _free_places(folder: Path) -> Iterator[FileLock]:
    places = (FileLock(folder / f"{number}.lock") for number in itertools.count())
    return (place for place in places if place.try_acquire())


@contextmanager
def _tolerant() -> Iterator[None]:
    """A roster that cannot be reached keeps no trainer from its work: who is silent is noticed later."""
    try:
        yield
    except (TensorGuardError, OSError) as error:
        log.warning("roster_not_told", code=getattr(error, "code", "os_error"))
