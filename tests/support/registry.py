"""A real schema registry for tests: one for a whole test run, on this machine alone, started when first asked for."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from tests.support.require import absent
from tests.support.server import free_port
from tests.support.shared import Running, shared

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

    @property
    def running(self) -> Running:
        """It as other processes know it."""
        assert self._process is not None
        return Running(self._process.pid, str(self._folder), self.url)

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


@dataclass(frozen=True)
class SharedRegistry:
    """The address of one that others use as well."""

    url: str


@cache
def registry() -> SharedRegistry:
    """The registry of this test run; skips the test, or fails it when one is required, if there cannot be one."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        absent("registry", f"{' and '.join(missing)} cannot be found.")
    try:
        return SharedRegistry(shared("registry", _started))
    except RuntimeError as error:
        absent("registry", str(error))


def _started() -> Running:
    made = Registry()
    made.start()
    return made.running
