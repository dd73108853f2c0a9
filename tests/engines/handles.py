"""Handles on one ledger of a broker, and what tests of the engine on Kafka write there."""

from __future__ import annotations

from dataclasses import replace

from tensorguard.ledger.envelope import Envelope, SignedCommand
from tensorguard.ledger.record import Meta, encode_record

from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.engines.kafka.topics import Topics
from producers.engines.port import ACCEPTED, Reply
from schemas.codec import event_schema
from tests.engines.kits import Unframed

SOON = 20.0


class Kafka:
    """Handles on one ledger."""

    def __init__(self, config: KafkaConfig) -> None:
        self.config = config
        self.topics = Topics(self.config)
        self._open: list[KafkaEngine] = []

    def open(self, partition: int | None = None, framing: Unframed | None = None, **options: str) -> KafkaEngine:
        given = {name.replace("_", "."): value for name, value in options.items()}
        config = replace(self.config, options={**self.config.options, **given})
        engine = KafkaEngine(config, partition, framing or Unframed())
        self._open.append(engine)
        return engine

    def close(self) -> None:
        for engine in self._open:
            engine.close()


class Breaking(Unframed):
    """Breaks off in the middle of a commit."""

    def frame(self, record: bytes) -> bytes:
        if record == b"break":
            raise RuntimeError
        return record


def numbered(start: int, count: int) -> list[bytes]:
    return [str(seq).encode() for seq in range(start, start + count)]


def opening(chain: str, partition: int) -> bytes:
    """The first record of a chain."""
    schema = event_schema("ChainOpened")
    meta = Meta(bytes(32), chain, 0, 1, schema.digest, bytes(16), "chain", 0, 1_000_000, None, None, None)
    named = {"chain": chain, "origin": "here", "intake_partition": partition}
    return encode_record(schema.text, meta, None, {"format_version": 1, "authority_key": bytes(32), **named})


def reply(number: int) -> Reply:
    return Reply(number.to_bytes(16, "big"), ACCEPTED, "acme", number, number, "", "", bytes(32))


def command(chain: str) -> bytes:
    envelope = Envelope(chain, chain, "s", None, bytes(16), "C", bytes(32), 1, 2, None, None, None, b"")
    return SignedCommand(envelope.to_bytes(), bytes(32), 0, 1, (), bytes(64)).to_bytes()
