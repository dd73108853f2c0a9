"""The engine on Kafka puts every record into its frame, and takes off either."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tensorguard.ledger import format as fmt
from tensorguard.ledger.record import Meta, encode_record

from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.engines.kafka.framing import MalformedFrameError, schema_fingerprint
from producers.engines.kafka.registry import RegistryUnavailableError, SchemaRegistry
from producers.engines.port import Append, Commit
from schemas.codec import event_schema
from tests.support.kafka import broker
from tests.support.records import some_record
from tests.support.registry import registry
from tests.support.server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Opened = Callable[[KafkaConfig], KafkaEngine]

RECORDS = [some_record(mark) for mark in "abcd"]
SINGLE = b"\xc3\x01" + schema_fingerprint(event_schema("EpochOpened").text)
NEWER = fmt.record_schema_text(
    {"type": "record", "name": "tensorguard.event.EpochClosed", "fields": [{"name": "reason", "type": "string"}]}
)
"""A record schema of some other build."""


@pytest.fixture
def opened() -> Iterator[Opened]:
    engines: list[KafkaEngine] = []

    def open_one(config: KafkaConfig) -> KafkaEngine:
        engines.append(KafkaEngine(config))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.close()


def _messages(config: KafkaConfig, count: int) -> list[bytes]:
    """What lies in the topic of the chain ``acme``."""
    consumer = Consumer({"bootstrap.servers": config.servers, "group.id": "raw", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(f"{config.prefix}.ledger.acme", 0, 0)])
    try:
        return [message.value() or b"" for message in consumer.consume(count, 30)]
    finally:
        consumer.close()


def _append(engine: KafkaEngine, size: int, *records: bytes) -> None:
    engine.commit(Commit(engine.open_epoch(), [Append("acme", size, records)]))


def test_a_ledger_may_hold_both_frames_and_reads_as_one(opened: Opened) -> None:
    without = broker().config()
    with_registry = replace(without, registry=registry().url)
    number = SchemaRegistry(registry().url).ids_of([event_schema("EpochOpened").text])[0]
    _append(opened(without), 0, *RECORDS[:2])
    _append(opened(with_registry), 2, *RECORDS[2:])
    confluent = b"\x00" + number.to_bytes(4, "big")
    heads = [SINGLE, SINGLE, confluent, confluent]
    assert _messages(without, 4) == [head + record for head, record in zip(heads, RECORDS, strict=True)]
    for config in (without, with_registry):
        assert list(opened(config).read("acme", 0, 9)) == RECORDS


def test_a_writer_without_its_registry_does_not_start_and_fences_nobody(opened: Opened) -> None:
    config = broker().config()
    running = opened(config)
    epoch = running.open_epoch()
    away = replace(config, registry=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(RegistryUnavailableError):
        opened(away).open_epoch()
    running.commit(Commit(epoch, [Append("acme", 0, RECORDS)]))
    assert list(opened(away).read("acme", 0, 9)) == RECORDS


def test_a_message_in_no_frame_stops_who_reads_it_and_nobody_else(opened: Opened) -> None:
    config = broker().config()
    engine = opened(config)
    epoch = engine.open_epoch()
    engine.commit(Commit(epoch, [Append("acme", 0, RECORDS[:1]), Append("beta", 0, RECORDS)]))
    intruder = Producer({"bootstrap.servers": config.servers})
    intruder.produce(f"{config.prefix}.ledger.acme", b"forged", b"1")
    intruder.flush(30)
    engine.commit(Commit(epoch, [Append("acme", 1, RECORDS[1:])]))
    reader = opened(config)
    for _ in range(2):
        assert list(reader.read("acme", 0, 1)) == RECORDS[:1]
        assert list(reader.read("beta", 0, 9)) == RECORDS
        for start in (0, 1):
            with pytest.raises(MalformedFrameError):
                reader.read("acme", start, 2)


def test_another_builds_record_is_framed_by_what_its_chain_registered_long_ago(opened: Opened) -> None:
    config = broker().config()
    digest = fmt.schema_digest(NEWER)
    known = event_schema("SchemaRegistered")
    said = {"kind": "event", "name": "EpochClosed", "schema": digest, "text": NEWER}
    _append(opened(config), 0, RECORDS[0], encode_record(known.text, _meta(1, known.digest), None, said))
    newer = encode_record(NEWER, _meta(2, digest), None, {"reason": "done"})
    _append(opened(config), 2, newer)
    assert _messages(config, 3)[2] == b"\xc3\x01" + schema_fingerprint(NEWER) + newer


def _meta(seq: int, digest: bytes) -> Meta:
    return Meta(bytes(32), "acme", seq, 1, digest, bytes(16), "chain", seq, 1_000_000, None, None, None)
