"""Which processes a server consists of: each supervisor says so in a file, other processes of its machine read it.

A supervisor of a single role has a file of its own, be it in a container of its own or not. Process ids mean something
on one machine alone.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import structlog

from producers.files import replace_file
from producers.locks import is_locked
from producers.sequencer.lock import sequencer_runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from api.children import Supervisor

_log = structlog.get_logger(__name__)
FOLDER = "processes"
LOCK = "server.lock"
"""Held alone by the supervisor of a whole server, shared by those of single roles."""


@dataclass(frozen=True, slots=True)
class Roll:
    """A supervisor's process, the address of its doors, and its children by name.

    ``running``: the process of each child, None where it does not run. ``starts``: how often each was started.
    """

    supervisor: int
    url: str | None = None
    running: Mapping[str, int | None] = field(default_factory=dict)
    starts: Mapping[str, int] = field(default_factory=dict)


def rolls(data_dir: Path) -> list[Roll]:
    """What the supervisors that run on this machine said last."""
    found = [roll for roll in map(_read, _files(data_dir / "run" / FOLDER)) if roll is not None]
    return [roll for roll in found if alive(roll.supervisor)]


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{socket.gethostname()}-*.json"))


def _read(path: Path) -> Roll | None:
    try:
        value = json.loads(path.read_bytes())
        return Roll(value["supervisor"], value["url"], value["running"], value["starts"])
    except (OSError, ValueError, KeyError, TypeError):  # removed meanwhile, or cut off by a full disk
        return None


def alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, but it runs
        return True
    return True


class RollCall:
    """Writes the file whenever something has changed; ``url`` is where the doors are, if there are any."""

    def __init__(self, data_dir: Path, url: str | None = None) -> None:
        folder = data_dir / "run" / FOLDER
        for left in _files(folder):
            roll = _read(left)
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
