"""A Kafka broker of the demo's own, and a data directory that has its ledger there."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorguard.errors import UsageError

from api.demo.errors import PartFailedError
from api.demo.processes import free_port
from api.demo.screen import Screen
from producers.settings import read

START = Path(__file__).resolve().parents[2] / "deploy" / "kafka" / "start"
READY = b"Kafka Server started"
READY_SECONDS = 300.0
"""Most of it for Maven, which fetches the broker the first time."""
STOP_SECONDS = 15.0


class Broker:
    """``deploy/kafka/start`` on free ports of this machine, in a process group of its own."""

    def __init__(self, folder: Path, log: Path) -> None:
        ports = (str(free_port()), str(free_port()))
        self.command = (str(START), str(folder), *ports)
        self.url = f"kafka://127.0.0.1:{ports[0]}"
        self._log = log
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
                f"{START} cannot be run ({error.strerror}).",
                next_step="Run the demo from a checkout, or set TG_LOG_URL to a broker that runs.",
            ) from error
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._ready.wait(READY_SECONDS)
        if self._ended.is_set() or not self._ready.is_set():
            raise PartFailedError(
                f"The broker did not start; see {self._log}.",
                next_step="It needs Java 17 and, the first time, Maven; or set TG_LOG_URL to a broker that runs.",
            )

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keep what it says, and notice when it is ready or gone."""
        with self._log.open("ab") as log:
            for line in process.stdout or ():
                log.write(line)
                if READY in line:
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

    That is the cluster of ``TG_LOG_URL``, or else a broker of the demo's own, with its data in ``folder``.

    Raises:
        PartFailedError: the broker did not start.
        UsageError: Kafka is asked for, and ``TG_LOG_URL`` says otherwise.
    """
    settings = read().settings
    if settings.embedded and not kafka:
        yield
    elif settings.log_url is None:
        with _running(folder, screen) as broker:
            keep_ledger_at(data_dir, broker.url)
            yield
    elif settings.embedded:
        raise UsageError("TG_LOG_URL names a file.", next_step="Unset it, or leave --kafka out.")
    else:
        keep_ledger_at(data_dir, settings.log_url)
        yield


@contextmanager
def _running(folder: Path, screen: Screen) -> Iterator[Broker]:
    folder.mkdir()
    broker = Broker(folder / "data", folder / "broker.log")
    try:
        with screen.part("Start a Kafka broker"):
            broker.start()
        yield broker
    finally:
        broker.stop()
    screen.say(f"the ledger stays on the broker's disk; to start it again: {' '.join(broker.command)}")


def keep_ledger_at(data_dir: Path, url: str) -> None:
    """Let every program that works on a data directory find its ledger on Kafka, under a prefix of its own."""
    data_dir.mkdir(parents=True)
    prefix = f"tg-demo-{secrets.token_hex(4)}"
    (data_dir / "settings.toml").write_text(f'log_url = "{url}"\nkafka_prefix = "{prefix}"\n')
