"""The locks that say who writes a data dir. They are for liveness; the ledger itself is guarded by the writer's epoch.

Where one decides alone he holds ``sequencer.lock`` for himself. The sequencers of an intake with several partitions
share it, each with a lock of its partition beside it; so whoever must write alone, to move the ledger say, is kept out
by any of them, and keeps them all out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from producers.engines.bells import Bells
from producers.errors import WriterActiveError
from producers.locks import FileLock, is_locked

if TYPE_CHECKING:
    from pathlib import Path

_TOPIC = "writer"


class SequencerLock:
    """Held by the one process that decides, or decides a partition; given back by the kernel if that process dies."""

    def __init__(self, data_dir: Path, partition: int | None = None) -> None:
        self._lock = FileLock(_path(data_dir, partition))
        self._shared = None if partition is None else FileLock(_path(data_dir))
        self._bells = Bells(data_dir / "bells")

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._lock.held

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        if self._shared is None or self._lock.held:
            return self._lock.try_acquire()
        if self._shared.try_share() and self._lock.try_acquire():
            return True
        self._shared.release()
        return False

    def acquire(self, timeout: float = 5.0) -> None:
        """Take the lock; who decides inline holds it for a moment only, so that wait is short.

        Raises:
            WriterActiveError: another process still holds it after so many seconds.
        """
        deadline = time.monotonic() + timeout
        while not self._bells.wait(_TOPIC, self.try_acquire, min(1.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise WriterActiveError("Another server writes this data dir.")

    def release(self) -> None:
        """Give it back and wake whoever waits for it."""
        if self._lock.held:
            self._lock.release()
            if self._shared is not None:
                self._shared.release()
            self._bells.ring(_TOPIC)

    def close(self) -> None:
        """Give everything back."""
        self.release()
        self._bells.close()


def sequencer_runs(data_dir: Path) -> bool:
    """Whether somebody decides on this data dir, alone or a partition."""
    return any(is_locked(path) for path in (data_dir / "run").glob("sequencer*.lock"))


def every_partition_runs(data_dir: Path, partitions: int) -> bool:
    """Whether somebody decides alone, or each of so many partitions has its sequencer."""
    return is_locked(_path(data_dir)) or all(is_locked(_path(data_dir, each)) for each in range(partitions))


def _path(data_dir: Path, partition: int | None = None) -> Path:
    return data_dir / "run" / ("sequencer.lock" if partition is None else f"sequencer-{partition}.lock")
