"""Records a second that a projector folds from a chain on Kafka, beside a bare consumer of its topic."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.engines.kafka.topics import Topics
from producers.feed import Feed
from projections.database import open_database, sqlite_url
from projections.projector import Projector
from tests.bench.harness import Figure, interleave, seconds
from tests.bench.kafka import open_kafka_ledger
from tests.bench.kafka_appends import Load, measure
from tests.bench.ledger import CHAIN
from tests.bench.sizes import KafkaProjectionSize

RAW = "a bare consumer of the same topic"
_SECONDS = 30.0
_PAGE = 1000


def run(size: KafkaProjectionSize, work: Path) -> list[Figure]:
    """Records a second from the first one on: into views, and as typed events alone."""
    with open_kafka_ledger(work / "data") as ledger:
        for _ in range(size.records // size.load):
            measure(ledger, Load(size.load, 1), size.load)
        records, numbers = int(ledger.engine.size(CHAIN)), count()

        def consumed() -> float:
            return records / seconds(lambda: _consume(ledger.config, records))

        def read() -> float:
            with closing(_reader(ledger.config)) as engine:
                return records / seconds(lambda: _read(engine))

        def projected() -> float:
            with closing(_reader(ledger.config)) as engine:
                projector = Projector(engine, open_database(sqlite_url(work / f"views{next(numbers)}.db")))
                return sum(engine.sizes().values()) / seconds(projector.catch_up)

        found = interleave(size.rounds, {"raw": consumed, "read": read, "projected": projected})
    return [
        Figure("projected into views", "records/s", found["projected"], RAW, found["raw"]),
        Figure("read as typed events", "records/s", found["read"], RAW, found["raw"]),
    ]


def _reader(config: KafkaConfig) -> KafkaEngine:
    """A handle of its own that holds no record yet, and knows how large the chains are."""
    engine = KafkaEngine(config)
    engine.sizes()
    return engine


def _read(engine: KafkaEngine) -> None:
    feed = Feed(engine, chains=lambda name: name == CHAIN)
    while feed.poll():
        pass


def _consume(config: KafkaConfig, records: int) -> None:
    consumer = Consumer(config.consumer("bare", reset="earliest"))
    consumer.assign([TopicPartition(Topics(config).ledger(CHAIN), 0, 0)])
    while records > 0:
        first = consumer.poll(_SECONDS)
        if first is None:
            raise RuntimeError("The broker brings nothing more.")
        records -= sum(message.error() is None for message in (first, *consumer.consume(_PAGE, 0)))
    consumer.close()
