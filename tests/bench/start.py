"""From nothing to ready: a server on a data directory that exists, its trainer with torch loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench.harness import Figure, interleave, seconds
from tests.bench.service import make_model
from tests.bench.sizes import ModelSize, StartSize
from tests.support.catalogue import add_model
from tests.support.server import LiveServer

IMPORTS = "a Python that imports torch, transformers and peft"


def run(size: StartSize, work: Path) -> list[Figure]:
    """Seconds until ``/readyz`` answers 200, beside those of the imports that no trainer can do without."""
    data_dir = work / "data"
    add_model(data_dir, "base", make_model(work / "model", ModelSize(32, 2)))
    found = interleave(size.rounds, {"ready": lambda: _until_ready(data_dir, work), "imports": _imports})
    return [Figure("cold start to ready", "s", found["ready"], IMPORTS, found["imports"])]


def _until_ready(data_dir: Path, work: Path) -> float:
    server = LiveServer(data_dir, work / "server.log")
    try:
        return seconds(server.start)
    finally:
        server.stop()


def _imports() -> float:
    return seconds(lambda: subprocess.run([sys.executable, "-c", "import torch, transformers, peft"], check=True))
