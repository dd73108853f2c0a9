"""Which processes a server consists of: its supervisor says so in a file, its other processes read it there.

Where each role has a container of its own, each has a supervisor and a file of its own: process ids mean something on
one machine alone.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from producers.files import replace_file
from producers.locks import is_locked
from producers.sequencer.lock import sequencer_runs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from api.children import Supervisor

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


def read_roll(data_dir: Path) -> Roll | None:
    """What the supervisor of this machine said last; None if there is none."""
    try:
        value = json.loads(_path(data_dir).read_bytes())
        return Roll(value["supervisor"], value["url"], value["running"], value["starts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class RollCall:
    """Writes the file whenever something has changed; ``url`` is where the doors are, if there are any."""

    def __init__(self, data_dir: Path, url: str | None = None) -> None:
        self._path = _path(data_dir)
        self._url = url
        self._lock = threading.Lock()

    def write(self, supervisor: Supervisor) -> None:
        """How things stand now."""
        with self._lock:
            roll = Roll(os.getpid(), self._url, supervisor.process_ids(), supervisor.starts())
            replace_file(self._path, json.dumps(asdict(roll)).encode())

    def remove(self) -> None:
        """There is no supervisor any more."""
        self._path.unlink(missing_ok=True)


def server_runs(data_dir: Path) -> bool:
    """Whether a server, or one of its roles, runs on a data directory."""
    return sequencer_runs(data_dir) or is_locked(data_dir / "run" / LOCK)


def _path(data_dir: Path) -> Path:
    return data_dir / "run" / "processes" / f"{socket.gethostname()}.json"
