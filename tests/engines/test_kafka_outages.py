"""Brokers that stop, end and come back: short outages are ridden out, long ones end clearly."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from producers.engines.errors import EngineError, FencedError, LedgerDamagedError, UnreachableError
from producers.engines.kafka import KafkaConfig, KafkaEngine, ends, streams, topics
from producers.engines.kafka.errors import (
    BrokerError,
    CommitLostError,
    CommitUnknownError,
)
from producers.engines.port import Append, Commit, Snapshot
from tests.engines.handles import SOON, Kafka, numbered, reply
from tests.support.kafka import Broker, own_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LATER = 60.0


@pytest.fixture(scope="module")
def own() -> Iterator[Broker]:
    """A broker that nobody else uses."""
    with own_broker() as own:
        yield own


@pytest.fixture
def kafka(own: Broker) -> Iterator[Kafka]:
    kafka = Kafka(own.config())
    yield kafka
    kafka.close()


def test_a_broker_that_stops_for_longer_than_a_transaction_ends_the_writer_clearly(own: Broker, kafka: Kafka) -> None:
    engine = kafka.open(transaction_timeout_ms="1000")
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, [Append("acme", 0, [b"a"])]))
    own.signal(signal.SIGSTOP)
    try:
        with pytest.raises((CommitLostError, CommitUnknownError, FencedError)) as ended:
            engine.commit(Commit(epoch, [Append("acme", 1, [b"b"])]))
    finally:
        own.signal(signal.SIGCONT)
    assert ended.value.next_step
    fresh = kafka.open()
    again, size = fresh.open_epoch(), fresh.size("acme")
    fresh.commit(Commit(again, [Append("acme", size, [b"c"])]))
    assert list(kafka.open().read("acme", 0, 9)) == [b"a", b"b", b"c"][:: 1 if size == 2 else 2]
    with pytest.raises(FencedError):
        engine.commit(Commit(epoch, [Append("acme", size + 1, [b"d"])]))


def test_whoever_reads_submits_or_writes_while_the_broker_is_away_gets_on_when_it_is_back(
    own: Broker, kafka: Kafka
) -> None:
    writer, reader = kafka.open(), kafka.open()
    epoch = writer.open_epoch()
    writer.commit(Commit(epoch, [Append("acme", 0, numbered(0, 50))], [reply(0)]))
    writer.save_snapshot(Snapshot("acme", 50, bytes(32), b"state"))
    entry = reader.submit([b"before"])[0]
    assert reader.size("acme") == 50
    own.stop()
    asked: list[Callable[[], object]] = [
        lambda: writer.commit(Commit(epoch, [Append("acme", 50, numbered(50, 1))], [reply(50)], entry)) is None,
        lambda: reader.wait({"acme": 50}, LATER),
        lambda: reader.submit([b"meanwhile"])[0] > entry,
        lambda: reader.sizes().keys() == {"acme"},
        lambda: list(reader.read("acme", 10, 40)) == numbered(10, 40),
        lambda: reader.waiting() >= 0,
        lambda: reader.load_snapshot("acme") == Snapshot("acme", 50, bytes(32), b"state"),
        lambda: reader.publish_checkpoint("acme", b"note") is None,
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = [pool.submit(ask) for ask in asked]
        own.start()
        assert [answer.result(LATER) for answer in answers] == [True] * len(asked)
    fresh = kafka.open()
    assert list(fresh.read("acme", 0, 99)) == numbered(0, 51)
    assert [waiting.data for waiting in fresh.intake(fresh.intake_position(), 9)] == [b"meanwhile"]
    assert (fresh.checkpoint("acme"), fresh.reply(reply(50).command_id)) == (b"note", reply(50))
    writer.commit(Commit(epoch, [Append("acme", 51, numbered(51, 1))]))
    assert reader.wait({"acme": 51}, SOON)


def test_a_writer_outlasts_a_pause_that_is_shorter_than_a_transaction(own: Broker, kafka: Kafka) -> None:
    writer = kafka.open()
    epoch = writer.open_epoch()
    own.signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            committed = pool.submit(writer.commit, Commit(epoch, replies=[reply(1)]))
            own.signal(signal.SIGCONT)
            committed.result(LATER)
    finally:
        own.signal(signal.SIGCONT)
    assert kafka.open().reply(reply(1).command_id) == reply(1)


def test_handles_close_while_the_broker_hangs(own: Broker, kafka: Kafka) -> None:
    engine = kafka.open()
    engine.submit([b"entry"])
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [b"a"])], intake_position=1))
    engine.publish_checkpoint("acme", b"note")
    assert list(engine.read("acme", 0, 9)) == [b"a"]
    assert list(engine.intake(0, 9)) == []
    own.signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(engine.close).result(SOON)
    finally:
        own.signal(signal.SIGCONT)


def test_a_broker_that_stays_away_is_told_as_such(monkeypatch: pytest.MonkeyPatch, own: Broker, kafka: Kafka) -> None:
    monkeypatch.setattr(ends, "PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(ends, "ATTEMPT_SECONDS", 0.5)
    engine = kafka.open()
    assert engine.sizes() == {}
    own.signal(signal.SIGSTOP)
    try:
        with pytest.raises(UnreachableError) as told:
            engine.sizes()
    finally:
        own.signal(signal.SIGCONT)
    assert "TG_LOG_URL" in told.value.next_step
    assert engine.sizes() == {}


def test_a_chain_is_not_taken_for_gone_because_its_broker_is(
    monkeypatch: pytest.MonkeyPatch, own: Broker, kafka: Kafka
) -> None:
    monkeypatch.setattr(streams, "_GONE_SECONDS", 0.5)
    writer = kafka.open()
    reader = kafka.open(metadata_max_age_ms="1000", topic_metadata_refresh_interval_ms="500")
    epoch = writer.open_epoch()
    writer.commit(Commit(epoch, [Append("acme", 0, numbered(0, 9000))]))
    assert list(reader.read("acme", 0, 1)) == numbered(0, 1)
    own.stop()
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(reader.read, "acme", 8500, 1)
        with suppress(TimeoutError):
            read.result(1.5)
        own.start()
        assert list(read.result(LATER)) == numbered(8500, 1)


def test_a_start_without_a_broker_says_so_at_once_and_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_CONNECT_SECONDS", 0.3)
    with capture_logs() as logged, pytest.raises(BrokerError, match="TG_LOG_URL"):
        KafkaEngine(KafkaConfig("127.0.0.1:1"))
    assert (logged[0]["event"], logged[0]["servers"]) == ("kafka_awaited", "127.0.0.1:1")


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_a_writer_gets_through_kills_and_pauses_at_any_moment(own: Broker, kafka: Kafka, seed: int) -> None:
    random, done = Random(seed), threading.Event()

    def disturb() -> None:
        for _ in range(6):
            done.wait(random.uniform(0.0, 3.0))
            if random.random() < 0.5:
                own.stop()
                done.wait(random.uniform(0.0, 3.0))
                own.start()
            else:
                own.signal(signal.SIGSTOP)
                done.wait(random.uniform(0.1, 8.0))
                own.signal(signal.SIGCONT)
        done.set()

    def write() -> int:
        """What a sequencer does whose supervisor starts it again; how many records were acknowledged in the end."""
        size = 0
        while not (done.is_set() and size):
            try:
                engine = kafka.open(transaction_timeout_ms="5000")
                epoch = engine.open_epoch()
                size = engine.size("acme")
                while True:
                    engine.commit(Commit(epoch, [Append("acme", size, numbered(size, 1))], [reply(size)]))
                    size += 1
                    if done.is_set():
                        break
            except LedgerDamagedError:
                raise  # Nobody starts a sequencer again that says so.
            except EngineError:
                continue
        return size

    with ThreadPoolExecutor(2) as pool:
        disturbing, writing = pool.submit(disturb), pool.submit(write)
        disturbing.result(600)
        size = writing.result(120)
    assert list(kafka.open().read("acme", 0, size + 1)) == numbered(0, size)
