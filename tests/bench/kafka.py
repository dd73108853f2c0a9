"""A ledger on a real broker, its sequencer in a process of its own, and what the broker's clients do without us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from confluent_kafka import Producer as KafkaProducer
from tensorguard.ledger.export import PLATFORM

from producers.engines.kafka import KafkaConfig
from producers.engines.kafka.framing import Framer
from producers.engines.kafka.topics import Topic, TopicMaker
from producers.engines.opening import kafka_config
from producers.installation import Installation
from producers.submitter import Submitter
from tests.bench.ledger import CHAIN, Ledger, TimedEngine
from tests.bench.sequencing import READY, WATCH, Spent
from tests.support.kafka import broker

_SECONDS = 60.0
_PAGE = 512
Taken = Mapping[str, Spent]


class Child:
    """A process of a benchmark, which answers a line with a line."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.answer() != READY:
            raise RuntimeError(f"{module} did not start.")

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def tell(self, line: str = "") -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(_SECONDS)


class Sequencing(Child):
    """The sequencer's process."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__("sequencing", str(data_dir))

    def taken(self, *, watch: bool = False) -> Taken:
        """What it has taken since this was asked last; ``watch``: time its stages from here on, not commits alone."""
        self.tell(WATCH if watch else "")
        return {name: Spent(**spent) for name, spent in json.loads(self.answer()).items()}


@dataclass
class KafkaLedger(Ledger):
    """An open ledger on Kafka; ``sequencing`` decides what is submitted to it."""

    sequencing: Sequencing
    config: KafkaConfig


@contextmanager
def open_kafka_ledger(data_dir: Path) -> Iterator[KafkaLedger]:
    """Make an installation with one partition on the broker of this process, and run its sequencer until the end."""
    installation = install(data_dir)
    sequencing = Sequencing(data_dir)
    engine = TimedEngine(installation.engine())
    submitter = Submitter(installation, engine)
    try:
        submitter.ensure_chain(PLATFORM)
        submitter.ensure_chain(CHAIN)
        gateway = installation.producer("gateway")
        yield KafkaLedger(installation, engine, submitter, gateway, sequencing, kafka_config(installation.settings))
    finally:
        sequencing.close()
        submitter.close()
        installation.close()


def install(data_dir: Path) -> Installation:
    """An installation whose ledger is a new one on the broker of this process, with one partition."""
    config = broker().config()
    data_dir.mkdir(parents=True)
    values = {"log_url": f"kafka://{config.servers}", "kafka_prefix": config.prefix, "kafka_partitions": 1}
    (data_dir / "settings.toml").write_text(
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    )
    return Installation.open(data_dir)


def memory_of(pid: int) -> int:
    """Bytes of memory in which a process resides."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def files_of(pid: int) -> int:
    """How many files and connections a process holds open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class RawProducer:
    """What is compared with: a transactional producer of the same settings that sends bytes to a topic of its own."""

    def __init__(self, config: KafkaConfig) -> None:
        self._topic = f"{config.prefix}.raw"
        TopicMaker(config).ensure([Topic(self._topic, 1)])
        self._producer = KafkaProducer(config.transactional("raw"))
        self._producer.init_transactions(_SECONDS)

    def send(self, records: Sequence[tuple[bytes, bytes]], batch: int) -> None:
        """Keys and values in transactions of so many, one after another."""
        for start in range(0, len(records), batch):
            self._producer.begin_transaction()
            for key, value in records[start : start + batch]:
                self._producer.produce(self._topic, value, key, partition=0)
            self._producer.commit_transaction(_SECONDS)


def as_sent(engine: Any, start: int, end: int) -> list[tuple[bytes, bytes]]:
    """Keys and framed values of a chain's records, as they stand in its topic."""
    framer = Framer()
    framer.prepare()
    pages = (engine.read(CHAIN, at, min(_PAGE, end - at)) for at in range(start, end, _PAGE))
    return [(str(seq).encode(), framer.frame(record)) for seq, record in enumerate(chain.from_iterable(pages), start)]
