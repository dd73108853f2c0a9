"""What a container's health check says of the processes in it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.ledgers import ROOT
from tests.support.server import free_port


def told(data_dir: Path, **changes: Any) -> tuple[int, str]:
    """The health check's exit code and words, for a supervisor that says so of itself: this process."""
    folder = data_dir / "run" / "processes"
    folder.mkdir(parents=True, exist_ok=True)
    roll = {"supervisor": os.getpid(), "url": None, "running": {"signer": os.getpid()}, "starts": {"signer": 1}}
    (folder / f"{socket.gethostname()}-{os.getpid()}.json").write_text(json.dumps({**roll, **changes}))
    return health(data_dir)


def health(data_dir: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "api.health", "--data-dir", str(data_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr.strip()


def test_the_check_costs_a_container_little() -> None:
    loaded = "import sys, api.health; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"api"} == set(done.stdout.split()) & {"api", "producers", "schemas", "tensorguard", "structlog", "typer"}


def test_processes_that_run_are_well_and_others_are_named(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        child.wait()
    assert health(tmp_path) == (1, "No server runs here.")
    assert told(tmp_path) == (0, "")
    assert told(tmp_path, supervisor=child.pid) == (1, "No server runs here.")
    assert told(tmp_path, running={"signer": os.getpid(), "worker": None}) == (1, "Not running: worker.")
    assert told(tmp_path, running={"trainer": child.pid}) == (1, "Not running: trainer.")
    deaf = f"http://127.0.0.1:{free_port()}"
    assert told(tmp_path, url=deaf) == (1, f"Nothing answers at {deaf}.")
