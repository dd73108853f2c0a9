"""A real server process on a data directory, for tests that talk to it as users do."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

BIN = Path(sys.executable).parent
READY_SECONDS = 300.0


def tensorguard(*args: str | Path, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the ``tensorguard`` command as a user would."""
    done = subprocess.run(
        [str(BIN / "tensorguard"), *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"tensorguard {' '.join(map(str, args))} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


def tensorguard_json(*args: str | Path, timeout: float = 120) -> Any:
    """The JSON a ``tensorguard … --json`` command printed."""
    return json.loads(tensorguard(*args, "--json", timeout=timeout).stdout)


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class LiveServer:
    """``tensorguard server`` as a process of its own; its log is kept in a file."""

    data_dir: Path
    log_path: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    ca: Path | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.port}"

    def start(self, *, ready: bool = True) -> LiveServer:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    BIN / "tensorguard",
                    "server",
                    "--data-dir",
                    self.data_dir,
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(self.port),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "2", **self.environment},
            )
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        trusted = ssl.create_default_context(cafile=self.ca) if self.ca else True
        pause = threading.Event()
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}\n{self.log()[-4000:]}")
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5, verify=trusted).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            pause.wait(0.1)
        raise AssertionError(f"the server is not ready after {seconds} s\n{self.log()[-4000:]}")

    def child(self, module: str) -> int | None:
        """The process id of the server's child that runs a module."""
        assert self.process is not None
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            if parent == self.process.pid and module.encode() in command:
                return int(entry.name)
        return None

    def kill_child(self, module: str) -> None:
        pid = self.child(module)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def kill(self) -> None:
        """SIGKILL of the parent alone: its children have to notice by themselves."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """A clean shut-down; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(30)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
