"""A process of doors beside other processes of an installation."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from api.serving import listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60.0


@contextmanager
def door(data_dir: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A process of doors on a socket of ours, and a client of it."""
    with listening("127.0.0.1", 0) as listener, log.open("ab") as out:
        listener.listen()
        fd, port = listener.fileno(), listener.getsockname()[1]
        command = [sys.executable, "-m", "api.door", "--data-dir", data_dir, "--listen-fd", str(fd)]
        with subprocess.Popen(command, pass_fds=(fd,), stderr=out) as process:
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
                    yield process, client
            finally:
                process.kill()
