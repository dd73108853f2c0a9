"""The programs of the demo, run as their users run them: as processes of the ``tensorguard`` command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from api.demo.errors import PartFailedError
from processors.trainer.tuning import TUNING

TENSORGUARD = (sys.executable, "-m", "tensorguard.cli.main")
COMMAND_SECONDS = 120.0
READY_SECONDS = 180.0
GLANCE_SECONDS = 0.1


def tensorguard(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> Any:
    """What a ``tensorguard … --json`` command prints.

    Raises:
        PartFailedError: it failed; its own words are in the message.
    """
    words = [*map(str, arguments), "--json"]
    try:
        done = subprocess.run(
            [*TENSORGUARD, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
            env=_environment(environment or {}),
        )
    except subprocess.TimeoutExpired as error:
        raise PartFailedError(f"`tensorguard {words[0]} {words[1]}` was not done in {COMMAND_SECONDS:g} s.") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise PartFailedError(f"`tensorguard {words[0]} {words[1]}` ended with {done.returncode}: {said}")
    return json.loads(done.stdout)


def make_base_model(
    out: Path, text: Path | None, steps: int, log: Path, progress: Callable[[int, int, float], None]
) -> Any:
    """Make the base model in a process of its own; its report.

    Raises:
        PartFailedError: it was not made, or does not beat the unigram model.
    """
    given = ["--text", str(text)] if text else []
    command = [sys.executable, "-m", "api.demo.base_model", "--out", str(out), "--steps", str(steps), *given]
    report: Any = None
    with (
        log.open("ab") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=_environment({})) as maker,
    ):
        for line in maker.stdout or ():
            message = json.loads(line)
            if "step" in message:
                progress(message["step"], message["steps"], message["loss"])
            report = message.get("report", report)
            if "error" in message:
                raise PartFailedError(message["error"]["detail"], next_step=message["error"]["next_step"])
    if report is None:
        raise PartFailedError(f"The base model was not made; see {log}.")
    return report


class Server:
    """``tensorguard server`` in a process group of its own, so that it can be killed with all its children at once."""

    def __init__(self, data_dir: Path, log: Path) -> None:
        self._data_dir = data_dir
        self._log = log
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens; the same after a restart."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            PartFailedError: it ended, or is not ready in time.
        """
        command = [*TENSORGUARD, "server", "--data-dir", str(self._data_dir), "--host", "127.0.0.1"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self._port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                env=_environment({}),
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None:
                raise PartFailedError(f"The server ended with {self._process.returncode}; see {self._log}.")
            if time.monotonic() > deadline:
                raise PartFailedError(f"The server is not ready after {READY_SECONDS:g} s; see {self._log}.")
            threading.Event().wait(GLANCE_SECONDS)

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def trust_root(self) -> bytes:
        """What the server publishes for its auditors and devices."""
        return httpx.get(f"{self.url}/.well-known/tensorguard/trust-root.json", timeout=10).raise_for_status().content

    def kill(self) -> None:
        """SIGKILL for the server and all its children, at once: nobody gets to tidy up."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """End it as an operator would; with SIGKILL when it does not listen."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {**TUNING, **os.environ, **more}


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
