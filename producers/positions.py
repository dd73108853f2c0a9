"""Where the readers of the ledger stand, as they say themselves: one file for each reader that runs.

What a processor knows lies in its memory, and so does its position in each chain. While it runs it holds the lock
beside its file, which the kernel gives back when it dies; so whoever looks can tell one that stands still from one that
is gone, in whatever process it ran. The files are no memory: no reader begins where its file says.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from producers.locks import FileLock, is_locked, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from producers.clock import Clock

FOLDER = "readers"
EVERY_SECONDS = 1.0
_LOCK = ".lock"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader that runs: the processors that it feeds, ``host/pid``, the seq that it reads next in each chain.

    ``partial``: it leaves all other chains to other readers of these processors. ``noted_at``: when it said so, in
    microseconds since the epoch; it may have read on since.
    """

    processors: tuple[str, ...]
    process: str
    positions: Mapping[str, int]
    noted_at: int
    partial: bool = False


class PositionFile:
    """Says where one reader stands, at most once a second and only what is new; one thread uses it."""

    def __init__(
        self, data_dir: Path, processors: Sequence[str], clock: Clock, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = data_dir / "run" / FOLDER
        self._processors = tuple(processors)
        self._clock = clock
        self._seconds = seconds
        self._path = self._folder / f"{self._processors[0]}-{os.getpid()}-{uuid4().hex}.json"
        self._lock = FileLock(self._path.with_suffix(_LOCK))
        self._noted: dict[str, int] | None = None
        self._next = 0.0

    def note(self, positions: Mapping[str, int], *, partial: bool = False) -> None:
        """Say that the reader stands here, and whether it leaves other chains to others.

        A disk that is full leaves the note before it: no reader stops for this.
        """
        now = self._seconds()
        if now < self._next or positions == self._noted:
            return
        self._next = now + EVERY_SECONDS
        try:
            self._write(dict(positions), partial=partial)
        except OSError as error:
            _log.debug("position_not_noted", error=type(error).__name__)

    def close(self) -> None:
        """The reader runs no more."""
        if self._lock.held:
            for path in (self._path, self._lock.path):
                path.unlink(missing_ok=True)
        self._lock.release()

    def _write(self, positions: dict[str, int], *, partial: bool) -> None:
        if not self._lock.held:
            with locked(self._folder.with_suffix(_LOCK)):
                _sweep(self._folder)
                self._lock.acquire()
        value = {
            "processors": self._processors,
            "process": f"{socket.gethostname()}/{os.getpid()}",
            "positions": positions,
            "noted_at": self._clock(),
            "partial": partial,
        }
        fresh = self._path.with_suffix(".fresh")
        fresh.write_text(json.dumps(value))
        fresh.replace(self._path)  # whole or not at all; not durable, since nobody wants it after a crash
        self._noted = positions


def readers(data_dir: Path) -> list[Reader]:
    """The readers that run on this data dir and have read anything, by name and process."""
    folder = data_dir / "run" / FOLDER
    found = [_read(path) for path in sorted(folder.glob("*.json")) if is_locked(path.with_suffix(_LOCK))]
    return [reader for reader in found if reader is not None]


def _read(path: Path) -> Reader | None:
    try:
        value = json.loads(path.read_bytes())
        positions = {str(chain): int(position) for chain, position in value["positions"].items()}
        processors, process, noted_at = value["processors"], value["process"], value["noted_at"]
        return Reader(tuple(map(str, processors)), str(process), positions, int(noted_at), bool(value["partial"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # It has ended between two looks, or the file is not one of ours.


def _sweep(folder: Path) -> None:
    """Remove what killed readers left."""
    for path in folder.glob(f"*{_LOCK}"):
        if not is_locked(path):
            for left in (path.with_suffix(".json"), path.with_suffix(".fresh"), path):
                left.unlink(missing_ok=True)
