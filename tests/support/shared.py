"""Servers that all worker processes of one test run share: the first to ask starts one, the last to end stops it."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from producers.locks import locked

if TYPE_CHECKING:
    from collections.abc import Callable


class Running(NamedTuple):
    """A server that runs: its process, the folder of its data, and where it is found.

    One without a process of its own ends when its folder is gone.
    """

    pid: int | None
    folder: str
    address: str


def shared(name: str, start: Callable[[], Running]) -> str:
    """The address of the server of that name; ``start`` starts it if nobody has."""
    folder = _run_folder() / name
    folder.mkdir(exist_ok=True)
    with locked(folder / "lock"):
        if not (folder / "running.json").exists():
            (folder / "running.json").write_text(json.dumps(start()))
        running = Running(*json.loads((folder / "running.json").read_text()))
        (folder / f"user-{os.getpid()}").touch()
    atexit.register(_leave, folder, os.getpid())
    return running.address


@cache
def _run_folder() -> Path:
    """One folder for all workers of pytest-xdist; without it, for this process."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return Path(tempfile.mkdtemp(prefix="tg-run-"))
    folder = Path(tempfile.gettempdir()) / f"tg-run-{run}"
    folder.mkdir(exist_ok=True)
    return folder


def _leave(folder: Path, user: int) -> None:
    if os.getpid() != user:  # A fork of a worker is no user of its own.
        return
    with locked(folder / "lock"):
        (folder / f"user-{user}").unlink(missing_ok=True)
        if any(lives(int(path.name.removeprefix("user-"))) for path in folder.glob("user-*")):
            return
        running = Running(*json.loads((folder / "running.json").read_text()))
        (folder / "running.json").unlink()
        if running.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(running.pid, signal.SIGKILL)
    shutil.rmtree(running.folder, ignore_errors=True)


def lives(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
