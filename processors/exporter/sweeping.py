"""Removing exports whose time is over. Any number of processes may do so on one data dir; one at a time does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from processors.exporter.store import ExportStore, blobs_of
from producers.locks import FileLock

if TYPE_CHECKING:
    from producers.installation import Installation

SWEEP_SECONDS = 30.0
log = structlog.get_logger(__name__)


def keep_swept(installation: Installation, stop: threading.Event) -> None:
    """Remove what killed writers left, and from now on exports when their time is over, until told to stop."""
    blobs_of(installation).sweep()
    threading.Thread(target=_sweep, args=(installation, stop), name="exports-sweeper", daemon=True).start()


def _sweep(installation: Installation, stop: threading.Event) -> None:
    store, lock = ExportStore.of(installation), FileLock(installation.data_dir / "run" / "exports-sweep.lock")
    while True:
        try:
            if lock.try_acquire():
                store.sweep(installation.clock())
        except (TensorGuardError, OSError) as error:
            log.warning("exports_not_swept", code=getattr(error, "code", "os_error"))
        finally:
            lock.release()
        if stop.wait(SWEEP_SECONDS):
            return
