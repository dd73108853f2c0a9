"""Three brokers, of which two must have what is acknowledged: one may go; with two gone nothing is acknowledged."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from producers.engines.errors import EngineError
from producers.engines.port import Append, Commit
from tests.engines.handles import Kafka, numbered, reply
from tests.support.brokers import ThreeBrokers, three_brokers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.engines.kafka import KafkaEngine

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]
ATTEMPTS = 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[ThreeBrokers]:
    with three_brokers() as made:
        yield made


@pytest.fixture
def kafka(cluster: ThreeBrokers) -> Iterator[Kafka]:
    kafka = Kafka(cluster.copied(transaction_timeout_ms="8000", message_timeout_ms="8000"))
    yield kafka
    kafka.close()


def write_up_to(kafka: Kafka, size: int) -> None:
    """Append records until so many are acknowledged, as a sequencer that its supervisor starts again."""
    for _ in range(ATTEMPTS):
        with suppress(EngineError):
            engine = kafka.open()
            write(engine, engine.open_epoch(), size)
            return
    raise AssertionError(f"{size} records were not written in {ATTEMPTS} attempts")


def write(engine: KafkaEngine, epoch: int, size: int) -> None:
    for number in range(engine.size("acme"), size):
        engine.commit(Commit(epoch, [Append("acme", number, numbered(number, 1))], [reply(number)]))


def test_one_broker_may_go_and_with_two_gone_nothing_is_acknowledged(cluster: ThreeBrokers, kafka: Kafka) -> None:
    _, second, third = cluster.nodes
    reader = kafka.open()
    write_up_to(kafka, 20)
    third.stop()
    write_up_to(kafka, 40)
    submitted = reader.submit([b"before"])
    writer = kafka.open()
    epoch = writer.open_epoch()
    second.stop()
    with pytest.raises(EngineError):
        writer.commit(Commit(epoch, [Append("acme", 40, numbered(40, 1))], [reply(40)]))
    with pytest.raises(EngineError):
        kafka.open().submit([b"meanwhile"])
    second.start()
    third.start()
    write_up_to(kafka, 60)
    fresh = kafka.open()
    assert list(fresh.read("acme", 0, 99)) == numbered(0, 60)
    assert list(reader.read("acme", 0, 99)) == numbered(0, 60)
    assert [fresh.reply(reply(number).command_id) for number in range(40)] == [reply(number) for number in range(40)]
    entries = fresh.intake(0, 9)
    assert (entries[0].position, entries[0].data) == (submitted[0], b"before")
    assert {entry.data for entry in entries[1:]} <= {b"meanwhile"}
