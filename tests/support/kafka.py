"""Real Apache Kafka brokers for tests, on this machine alone: one for a whole test run, and others to be killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from producers.engines.kafka import KafkaConfig
from producers.engines.kafka.topics import Topics
from tests.support.require import absent
from tests.support.shared import Running, shared

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START = Path(__file__).parents[2] / "deploy" / "kafka" / "start"
PARTITIONS = 2
READY = "Kafka Server started"
_SECONDS, _GLANCE_SECONDS = 30.0, 0.02
# Few threads and buffers, and a lost transaction is looked for often: what a test waits for, it waits for shortly.
SMALL = (
    "num.network.threads=2",
    "num.io.threads=2",
    "background.threads=2",
    "log.cleaner.dedupe.buffer.size=8388608",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms=500",
)


class Cluster:
    """Brokers; ``servers`` is where clients find them."""

    def __init__(self, servers: str) -> None:
        self.servers = servers

    def config(self, prefix: str | None = None, *, options: dict[str, str] | None = None) -> KafkaConfig:
        """A ledger of its own, unless a prefix names one that there is."""
        name = prefix or f"t{uuid4().hex[:12]}"
        return KafkaConfig(self.servers, name, partitions=PARTITIONS, options=options or {})


class Broker(Cluster):
    """One broker with its data in a folder of its own; ``settings`` are its own, as ``name=value``."""

    def __init__(self, settings: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tg-kafka-"))
        self.port, self.controller = free_port(), free_port()
        self.settings = tuple(settings)
        super().__init__(f"127.0.0.1:{self.port}")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, or start it again on what it has stored."""
        arguments = [str(START), str(self.folder), str(self.port), str(self.controller), *SMALL, *self.settings]
        environment = {**os.environ, "TG_KAFKA_HEAP": "256m"}
        log = self.folder / "broker.log"
        with log.open("a") as sink:
            process = subprocess.Popen(
                arguments, stdout=subprocess.PIPE, stderr=sink, text=True, env=environment, start_new_session=True
            )
        self._process = process
        assert process.stdout is not None
        for line in process.stdout:
            if READY in line:
                break
        else:
            raise RuntimeError(f"The broker ended: {log.read_text()[-2000:]}")
        # It goes on talking; nobody listens, and it must not block on a full pipe.
        subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)  # noqa: S607 -- a standard tool
        process.stdout.close()

    def signal(self, number: signal.Signals) -> None:
        """Pause its process, let it go on, or kill it; a pause has begun when this returns."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def stop(self) -> None:
        """End it and wait until it is gone; its data stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """End it and remove its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def running(self) -> Running:
        """It as other processes know it."""
        assert self._process is not None
        return Running(self._process.pid, str(self.folder), self.servers)


@cache
def broker() -> Cluster:
    """The broker of this test run, which nobody stops; skips or fails the test if there cannot be one."""
    return Cluster(shared("kafka", _started))


@contextmanager
def own_broker(made: Broker | None = None) -> Iterator[Broker]:
    """A broker that the test may stop and kill; skips or fails the test if there cannot be one."""
    if made is None:
        made = _made()
    else:  # One with settings of its own is a process: it reads files.
        require_tools()
    try:
        made.start()
        yield made
    finally:
        made.close()


def require_tools() -> None:
    """Skip the test, or fail it when Kafka is required, if no broker can be started here."""
    if missing := _missing():
        absent("kafka", f"{missing} cannot be found.")


def _started() -> Running:
    made = _made()
    made.start()
    return made.running


def _made() -> Broker:
    """A process where Java is, unless containers are asked for; skips or fails the test if there can be neither."""
    missing = _missing()
    if not missing and os.environ.get("TG_TEST_CONTAINERS") != "1":
        return Broker()
    try:
        from tests.support.container import ContainerBroker  # noqa: PLC0415 -- it stands on this module

        return ContainerBroker()
    except (ImportError, RuntimeError) as error:
        absent("kafka", f"{missing} cannot be found, and {error}" if missing else str(error))


def _missing() -> str:
    return " and ".join(tool for tool in ("java", "mvn") if shutil.which(tool) is None)


def forget_replies(config: KafkaConfig) -> None:
    """What the broker does with replies when their time is over."""
    admin, topic = AdminClient(config.admin()), Topics(config).replies
    everything = [TopicPartition(topic, partition, OFFSET_END) for partition in range(config.partitions)]
    for deleted in admin.delete_records(everything).values():
        deleted.result(_SECONDS)


def delete_topics(config: KafkaConfig, *names: str) -> None:
    """Delete topics and wait until the broker lists them no more: it says earlier that they are gone."""
    admin = AdminClient(config.admin())
    for deleted in admin.delete_topics(list(names)).values():
        deleted.result(_SECONDS)
    deadline = time.monotonic() + _SECONDS
    while left := admin.list_topics(timeout=_SECONDS).topics.keys() & set(names):
        assert time.monotonic() < deadline, left
        time.sleep(_GLANCE_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
