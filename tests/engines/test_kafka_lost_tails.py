"""A broker that kept a chain's records and lost the end of what stands beside them: the records are right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from producers.deciders.registry import stream_of
from producers.engines.kafka import KafkaEngine
from producers.engines.kafka.intake import hashed_partition
from producers.engines.kafka.topics import TopicMaker
from producers.engines.port import Append, Commit
from producers.feed import Feed
from producers.identities import make_envelope
from producers.sequencer import Sequencer
from schemas.commands import EnrolProducer
from schemas.events import ApiKeyIssued
from tests.engines.handles import SOON, Breaking, Kafka, numbered, opening, reply
from tests.support.kafka import PARTITIONS, delete_topics
from tests.support.ledgers import Ledger

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Beside:
    """What ``writers`` and ``replies`` held at one time, and how a broker falls back to it."""

    kafka: Kafka
    held: list[Any]

    @classmethod
    def now(cls, kafka: Kafka) -> Beside:
        consumer = Consumer(kafka.config.consumer("readers", reset="earliest"))
        places = [
            TopicPartition(topic, partition, OFFSET_BEGINNING)
            for topic in (kafka.topics.writers, kafka.topics.replies)
            for partition in range(PARTITIONS)
        ]
        consumer.assign(places)
        held, ended = [], 0
        while ended < len(places):
            message = consumer.poll(SOON)
            assert message is not None
            ended += message.error() is not None
            held += [] if message.error() is not None else [message]
        consumer.close()
        return cls(kafka, held)

    def fall_back(self) -> None:
        """The topics end where they ended then; no handle may be open."""
        delete_topics(self.kafka.config, self.kafka.topics.writers, self.kafka.topics.replies)
        TopicMaker(self.kafka.config).ensure(self.kafka.topics.fixed())
        producer = Producer({"bootstrap.servers": self.kafka.config.servers, "transactional.id": uuid4().hex})
        producer.init_transactions(SOON)
        producer.begin_transaction()
        for message in self.held:
            producer.produce(message.topic(), message.value(), message.key(), partition=message.partition())
        producer.flush(SOON)
        producer.commit_transaction(SOON)


def written(kafka: Kafka, chain: str, sizes: list[int], partition: int = 0) -> None:
    """Commits of so many records each, numbered through."""
    engine = kafka.open(partition)
    epoch = engine.open_epoch()
    size = engine.size(chain)
    for count in sizes:
        engine.commit(Commit(epoch, [Append(chain, size, numbered(size, count))], [reply(size)]))
        size += count
    engine.close()


@pytest.mark.parametrize("lost", [[1], [3, 1], [700, 600]])
def test_a_writer_goes_on_behind_records_that_nothing_beside_them_tells_of(kafka: Kafka, lost: list[int]) -> None:
    written(kafka, "acme", [2, 3])
    beside = Beside.now(kafka)
    written(kafka, "acme", lost)
    beside.fall_back()
    engine, size = kafka.open(), 5 + sum(lost)
    assert engine.size("acme") == 5
    engine.commit(Commit(engine.open_epoch(), [Append("acme", size, numbered(size, 1))]))
    other = kafka.open()
    assert list(other.read("acme", 0, size + 9)) == numbered(0, size + 1)


def test_a_chain_that_nothing_tells_of_belongs_to_the_writer_that_its_opening_names_alone(kafka: Kafka) -> None:
    chain = next(name for name in "abcdefgh" if hashed_partition(name, PARTITIONS) == 0)
    records = [opening(chain, 1), *numbered(1, 4)]
    written(kafka, "acme", [1])
    beside = Beside.now(kafka)
    engine = kafka.open(1)
    engine.commit(Commit(engine.open_epoch(), [Append(chain, 0, records[:4])]))
    engine.close()
    beside.fall_back()
    zero, one = kafka.open(0), kafka.open(1)
    zero.open_epoch()
    assert zero.sizes() == {"acme": 1}
    epoch = one.open_epoch()
    assert one.sizes() == {"acme": 1, chain: 4}
    one.commit(Commit(epoch, [Append(chain, 4, records[4:])]))
    assert list(kafka.open().read(chain, 0, 9)) == records


def test_openings_and_commits_that_were_aborted_are_not_taken_for_records(kafka: Kafka) -> None:
    engine = kafka.open(framing=Breaking())
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [b"a"])]))
    for _ in range(3):
        with pytest.raises(RuntimeError):
            engine.commit(Commit(engine.open_epoch(), [Append("acme", 1, [b"b"]), Append("beta", 0, [b"x", b"break"])]))
    engine.open_epoch()
    assert engine.sizes() == {"acme": 1}


@pytest.mark.parametrize("read", [True, False])
def test_what_is_told_stays_near_the_end_however_often_writers_come_and_go(kafka: Kafka, *, read: bool) -> None:
    for size in range(8):
        engine = kafka.open()
        epoch = engine.open_epoch()
        assert not read or list(engine.read("acme", 0, 9)) == numbered(0, size)
        engine.commit(Commit(epoch, [Append("acme", size, numbered(size, 1))]))
        engine.close()
    reader = kafka.open()
    assert reader.sizes() == {"acme": 8}
    assert reader._state.heads["acme"].seq >= (6 if read else 4)


def test_commands_that_are_decided_again_after_a_loss_have_the_effect_they_had(kafka: Kafka, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "data")
    chain = next(name for name in "abcdefgh" if hashed_partition(name, PARTITIONS) == 0)
    key = ledger.installation.producer("gateway")
    enrol = EnrolProducer(key.key_id, key.public_key, "gateway", "gateway", None)
    opening = make_envelope(enrol, chain=chain, stream=stream_of(enrol), command_id=uuid4().bytes, now=ledger.clock())
    second = [ledger.issue(f"{number}", chain=chain) for number in range(4)]

    def decide(envelopes: list[Any]) -> KafkaEngine:
        engine = KafkaEngine(kafka.config)
        signed = ledger.authority.sign([envelope.to_bytes() for envelope in envelopes])
        engine.submit([each.to_bytes() for each in signed])
        sequencer = Sequencer.of(ledger.installation, engine)
        while sequencer.step():
            pass
        return engine

    decide([opening, ledger.issue(chain=chain)]).close()
    beside = Beside.now(kafka)
    engine = decide(second)
    told = [engine.reply(envelope.command_id, chain) for envelope in second]
    size = engine.size(chain)
    engine.close()
    beside.fall_back()
    engine = decide([ledger.issue("after", chain=chain)])
    assert [engine.reply(envelope.command_id, chain) for envelope in second] == told
    feed = Feed(engine, chains=lambda name: name == chain)
    recorded = feed.poll(2 * size)
    assert [each.seq for each in recorded] == list(range(engine.size(chain)))
    assert sum(isinstance(each.event, ApiKeyIssued) for each in recorded) == 1 + len(second) + 1
    engine.close()
    ledger.close()
