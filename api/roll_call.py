"""A supervisor's roll, written: what a health check reads without loading the platform (``roll``) is kept here."""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

from api.roll import FOLDER, Roll, alive, files, read
from producers.files import replace_file
from producers.locks import is_locked
from producers.sequencer.lock import sequencer_runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api.children import Supervisor

_log = structlog.get_logger(__name__)
LOCK = "server.lock"
"""Held alone by the supervisor of a whole server, shared by those of single roles."""


class RollCall:
    """Writes the file whenever something has changed; ``url`` is where the doors are, if there are any."""

    def __init__(self, data_dir: Path, url: str | None = None) -> None:
        folder = data_dir / "run" / FOLDER
        for left in files(folder):
            roll = read(left)
            if roll is None or not alive(roll.supervisor):
                left.unlink(missing_ok=True)
        self._path = folder / f"{socket.gethostname()}-{os.getpid()}.json"
        self._url = url
        self._lock = threading.Lock()

    def write(self, supervisor: Supervisor) -> None:
        """How things stand now. A full disk must not keep a child from being started again."""
        with self._lock:
            roll = Roll(os.getpid(), self._url, supervisor.process_ids(), supervisor.starts())
            try:
                replace_file(self._path, json.dumps(asdict(roll)).encode())
            except OSError as error:
                _log.warning("processes_not_noted", error=type(error).__name__)

    def remove(self) -> None:
        """There is no supervisor any more."""
        self._path.unlink(missing_ok=True)


@contextmanager
def announced(data_dir: Path, url: str) -> Iterator[None]:
    """Tell other processes of this machine where the server is."""
    path = data_dir / "run" / "server.json"
    replace_file(path, json.dumps({"pid": os.getpid(), "url": url}).encode())
    _log.info("listening", url=url)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def server_runs(data_dir: Path) -> bool:
    """Whether a server, or one of its roles, runs on a data directory."""
    return sequencer_runs(data_dir) or is_locked(data_dir / "run" / LOCK)
