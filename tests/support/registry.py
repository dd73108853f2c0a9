"""A real schema registry for tests: one per test process, on this machine alone, started when first asked for."""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

import httpx

from tests.support.require import absent
from tests.support.server import free_port

START = Path(__file__).parents[2] / "deploy" / "registry" / "start"
READY_SECONDS = 240.0
"""With the download on first use."""


class Registry:
    """One registry with its data in a folder of its own; ``url`` is its address, as ``TG_KAFKA_REGISTRY`` takes it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="tg-registry-"))
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again on what it has stored; ready when this returns."""
        log = self._folder / "registry.log"
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [START, self._folder / "data", str(self._port)], stdout=sink, stderr=sink, start_new_session=True
            )
        end = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"The registry does not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/subjects", timeout=5).is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        """End it and wait until it is gone; its data stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """End it and remove its data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@cache
def registry() -> Registry:
    """This process's registry; skips the test, or fails it when one is required, if there cannot be one."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        absent("registry", f"{' and '.join(missing)} cannot be found.")
    made = Registry()
    atexit.register(made.close)
    try:
        made.start()
    except RuntimeError as error:
        absent("registry", str(error))
    return made
