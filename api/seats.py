"""The trainers' seats: each start of one is a new worker, on the roster from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.children import Child, spawn
from processors.placement.standing import Standing, worker_id
from producers.settings.about import TRAINER

if TYPE_CHECKING:
    import subprocess

    from processors.exchange.hub import Hub
    from processors.placement.roster import Announcer
    from producers.installation import Installation


class TrainerSeat:
    """Where one of the trainers sits. It says to the roster at once that a trainer starts, and that it died."""

    def __init__(self, number: int, installation: Installation, hub: Hub, roster: Announcer) -> None:
        self.name = f"trainer-{number}" if installation.settings.trainers > 1 else "trainer"
        self._installation = installation
        self._hub = hub
        self._roster = roster
        self._producer = installation.producer("worker")
        self._worker: str | None = None

    @property
    def ready(self) -> bool:
        """Whether its present trainer can execute operations."""
        return self._worker is not None and self._hub.is_ready(self._worker)

    def start(self) -> subprocess.Popen[bytes]:
        """Start a trainer."""
        worker = worker_id(self._producer)
        where = ("--data-dir", str(self._installation.data_dir))
        process = spawn(TRAINER, "processors.trainer", *where, "--worker-id", worker, name=self.name)
        self._worker = worker
        # At once, though it takes seconds to get ready: what clients send meanwhile waits under the new lease.
        self._roster.announce(Standing(worker, self._installation.clock(), memory=self._memory))
        return process

    @property
    def _memory(self) -> int:
        return self._installation.settings.trainer_memory_bytes or 0

    def ended(self) -> None:
        """Its trainer is gone: what that held goes to others, or waits for the next one."""
        if self._worker is not None:
            self._roster.leave(self._worker)


class TrainerSeats:
    """As many seats as the settings ask for."""

    def __init__(self, installation: Installation, hub: Hub, roster: Announcer) -> None:
        seats = range(installation.settings.trainers)
        self._seats = [TrainerSeat(number, installation, hub, roster) for number in seats]

    @property
    def ready(self) -> bool:
        """Whether there is a trainer that can execute operations: one is enough for every run to go on."""
        return any(seat.ready for seat in self._seats)

    def children(self) -> list[Child]:
        """What a supervisor is to keep running."""
        return [Child(seat.name, seat.start, seat.ended) for seat in self._seats]
