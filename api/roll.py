"""Which processes a server consists of: each supervisor says so in a file, other processes of its machine read it.

A supervisor of a single role has a file of its own, be it in a container of its own or not. Process ids mean something
on one machine alone. Read here, with the standard library alone: every container's health check does it time and again.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FOLDER = "processes"


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
    found = [roll for roll in map(read, files(data_dir / "run" / FOLDER)) if roll is not None]
    return [roll for roll in found if alive(roll.supervisor)]


def files(folder: Path) -> list[Path]:
    """Those of this machine's supervisors."""
    return sorted(folder.glob(f"{socket.gethostname()}-*.json"))


def read(path: Path) -> Roll | None:
    """What a supervisor said; None if that is not to be had."""
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
