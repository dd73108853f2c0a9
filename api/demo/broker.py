"""A Kafka broker and a schema registry of the demo's own, and a data directory that has its ledger there."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tensorguard.errors import UsageError

from api.demo.errors import PartFailedError
from api.demo.fleet import DOORS, TRAINERS
from api.demo.processes import free_port
from api.demo.screen import Screen
from producers.settings import read

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
READY_SECONDS = 300.0
"""Most of it for Maven, which fetches the servers the first time."""
STOP_SECONDS = 15.0
SEVERAL = {"kafka_partitions": 2, "trainers": TRAINERS, "api_processes": DOORS}
"""How many processes of each kind the demo's server has where it has more than one."""


class Started:
    """A ``start`` script of ``deploy/`` on free ports of this machine, in a process group of its own.

    ``ready`` is what it says when it takes connections; ``url`` is where.
    """

    def __init__(self, name: str, folder: Path, ports: Sequence[str], *, ready: bytes, url: str) -> None:
        self.command = (str(DEPLOY / name / "start"), str(folder / name), *ports)
        self.url = url
        self._name = name
        self._says = ready
        self._log = folder / f"{name}.log"
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            PartFailedError: it ended, or is not ready in time.
        """
        try:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as error:
            raise PartFailedError(
                f"{self.command[0]} cannot be run ({error.strerror}).",
                next_step="Run the demo from a checkout, or set TG_LOG_URL to a broker that runs.",
            ) from error
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._ready.wait(READY_SECONDS)
        if self._ended.is_set() or not self._ready.is_set():
            raise PartFailedError(
                f"The server of deploy/{self._name} did not start; see {self._log}.",
                next_step="It needs Java 17 and, the first time, Maven; or set TG_LOG_URL to a broker that runs.",
            )

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keep what it says, and notice when it is ready or gone."""
        with self._log.open("ab") as log:
            for line in process.stdout or ():
                log.write(line)
                if self._says in line:
                    self._ready.set()
        self._ended.set()
        self._ready.set()

    def stop(self) -> None:
        """End it as an operator would; with SIGKILL when it does not listen."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def ledger_of(data_dir: Path, folder: Path, screen: Screen, *, kafka: bool) -> Iterator[None]:
    """Where the demo's ledger is for the length of a block: in the data directory, or on Kafka.

    That is the cluster of ``TG_LOG_URL``, or else a broker and a schema registry of the demo's own, with their data in
    ``folder``.

    Raises:
        PartFailedError: one of them did not start.
        UsageError: Kafka is asked for, and ``TG_LOG_URL`` says otherwise.
    """
    settings = read().settings
    if settings.embedded and not kafka:
        yield
    elif settings.log_url is None:
        with _running(folder, screen) as (broker, registry):
            keep_ledger_at(data_dir, broker.url, registry.url)
            yield
    elif settings.embedded:
        raise UsageError("TG_LOG_URL names a file.", next_step="Unset it, or leave --kafka out.")
    else:
        keep_ledger_at(data_dir, settings.log_url)
        yield


@contextmanager
def _running(folder: Path, screen: Screen) -> Iterator[tuple[Started, Started]]:
    folder.mkdir()
    servers = broker(folder), registry(folder)
    try:
        with screen.part("Start a Kafka broker and a schema registry"):
            for server in servers:
                server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()
    screen.say("the ledger stays on the broker's disk; to start both again:")
    for server in servers:
        screen.say(f"  {' '.join(server.command)}")


def broker(folder: Path) -> Started:
    """A Kafka broker with its data in a folder."""
    ports = str(free_port()), str(free_port())
    return Started("kafka", folder, ports, ready=b"Kafka Server started", url=f"kafka://127.0.0.1:{ports[0]}")


def registry(folder: Path) -> Started:
    """A schema registry with its data in a folder."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
    return Started("registry", folder, [port], ready=b"Installed features", url=url)


def keep_ledger_at(data_dir: Path, url: str, registry: str | None = None) -> None:
    """Let every program that works on a data directory find its ledger on Kafka, under a prefix of its own."""
    data_dir.mkdir(parents=True)
    lines = [f'log_url = "{url}"', f'kafka_prefix = "tg-demo-{secrets.token_hex(4)}"']
    lines += [f"{name} = {count}" for name, count in SEVERAL.items()]
    lines += [f'kafka_registry = "{registry}"'] if registry else []
    settings = data_dir / "settings.toml"
    settings.touch(mode=0o600)  # The address of a registry may hold a password.
    settings.write_text("\n".join(lines) + "\n")
