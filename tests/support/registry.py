"""A real schema registry, started once for all tests of a process that ask for it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.require import absent
from tests.support.server import free_port

START = Path(__file__).parents[2] / "deploy" / "registry" / "start"
FETCH_SECONDS, READY_SECONDS = 240, 120.0


@pytest.fixture(scope="session")
def registry_url() -> Iterator[str]:
    """The address of an empty registry, as ``TG_KAFKA_REGISTRY`` takes it."""
    _fetch()
    with live_registry() as url:
        yield url


@contextmanager
def live_registry(folder: Path | None = None) -> Iterator[str]:
    """A registry that ends with the block; it keeps its schemas in a folder, or in memory alone."""
    port = free_port()
    kept = [str(folder)] if folder else []
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen([START, str(port), *kept], stdout=log, stderr=log) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
            if not _ready(url, process):
                log.seek(0)
                absent("registry", f"it does not start: {log.read()[-500:].decode(errors='replace')}")
            yield url
        finally:
            process.kill()


def _fetch() -> None:
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            absent("registry", f"there is no {program} on the PATH")
    done = subprocess.run([START, "fetch"], capture_output=True, timeout=FETCH_SECONDS, check=False)
    if done.returncode:
        absent("registry", f"it cannot be downloaded: {done.stderr[-500:].decode(errors='replace')}")


def _ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/subjects", timeout=5).is_success:
                return True
        except httpx.TransportError:
            time.sleep(0.1)
    return False
