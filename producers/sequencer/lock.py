"""The lock that says who writes a data dir. It is for liveness; the ledger itself is guarded by the writer's epoch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from producers.engines.bells import Bells
from producers.errors import WriterActiveError
from producers.locks import FileLock

if TYPE_CHECKING:
    from pathlib import Path

_TOPIC = "writer"


class SequencerLock:
    """Held by the one process that decides; given back by the kernel if that process dies."""

    def __init__(self, data_dir: Path) -> None:
        self._lock = FileLock(data_dir / "run" / "sequencer.lock")
        self._bells = Bells(data_dir / "bells")

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._lock.held

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        return self._lock.try_acquire()

    def acquire(self, timeout: float = 5.0) -> None:
        """Take the lock; who decides inline holds it for a moment only, so that wait is short.

        Raises:
            WriterActiveError: another process still holds it after so many seconds.
        """
        deadline = time.monotonic() + timeout
        while not self._bells.wait(_TOPIC, self._lock.try_acquire, min(1.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise WriterActiveError("Another server writes this data dir.")

    def release(self) -> None:
        """Give it back and wake whoever waits for it."""
        if self._lock.held:
            self._lock.release()
            self._bells.ring(_TOPIC)

    def close(self) -> None:
        """Give everything back."""
        self.release()
        self._bells.close()
