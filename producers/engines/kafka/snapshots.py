"""Snapshots of chains, in parts: a snapshot may be larger than a message."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from producers.engines.kafka import messages
from producers.engines.kafka.errors import typed_errors
from producers.engines.kafka.messages import Stored
from producers.engines.port import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.engines.kafka.config import KafkaConfig
    from producers.engines.kafka.state import State
    from producers.engines.kafka.topics import Topics

_PART_BYTES = 512 << 10
_SECONDS = 35.0
_ID_BYTES = 16
# What is asked for next waits for the answer to what was asked before.
_SOON = {"fetch.wait.max.ms": 5}


class Notices:
    """Writes what is not part of a commit: checkpoints, snapshots, and where they lie."""

    def __init__(self, config: KafkaConfig, topics: Topics, state: State) -> None:
        self._config = config
        self._topics = topics
        self._state = state
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None

    def publish(self, chain: str, note: bytes) -> None:
        """Publish a checkpoint."""
        with self._lock, typed_errors("publishing a checkpoint"):
            self._send(self._topics.checkpoints, [(chain.encode(), note)])
            with self._state.changed:
                self._state.checkpoints[chain] = note
                self._state.changed.notify_all()

    def save(self, snapshot: Snapshot) -> None:
        """Keep a snapshot. The one before it stands until all parts of this one are there, in the other slot."""
        with self._lock, typed_errors("keeping a snapshot"):
            with self._state.changed:
                before = self._state.snapshots.get(snapshot.chain)
            slot = 1 - before.slot if before is not None else 0
            written, parts = uuid4().bytes, _parts(snapshot.data)
            offset = self._send(
                self._topics.snapshots,
                [(f"{snapshot.chain}/{slot}/{n}".encode(), written + part) for n, part in enumerate(parts)],
            )
            stored = Stored(snapshot.size, snapshot.digest, written, slot, offset, len(parts))
            self._send(
                self._topics.checkpoints, [(messages.snapshot_key(snapshot.chain), messages.encode_stored(stored))]
            )
            with self._state.changed:
                self._state.stored(snapshot.chain, stored)

    def load(self, chain: str, stored: Stored) -> Snapshot | None:
        """A snapshot from where it lies; None if a later one has begun to take its place."""
        with self._lock, typed_errors("reading a snapshot"):
            if self._consumer is None:
                self._consumer = Consumer(self._config.consumer("readers", reset="earliest") | _SOON)
            self._consumer.assign([TopicPartition(self._topics.snapshots, 0, stored.offset)])
            parts = self._load(self._consumer, chain, stored)
            self._consumer.unassign()
        return Snapshot(chain, stored.size, stored.digest, b"".join(parts)) if len(parts) == stored.parts else None

    def close(self) -> None:
        """Give the clients back."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()
        self._forget()

    def _forget(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()

    def _load(self, consumer: Consumer, chain: str, stored: Stored) -> list[bytes]:
        parts: list[bytes] = []
        while len(parts) < stored.parts:
            message = consumer.poll(_SECONDS)
            if message is None or message.error() is not None:
                return parts
            key, value = bytes(message.key() or b""), bytes(message.value() or b"")
            if key == f"{chain}/{stored.slot}/{len(parts)}".encode() and value[:_ID_BYTES] == stored.id:
                parts.append(value[_ID_BYTES:])
        return parts

    def _send(self, topic: str, notices: list[tuple[bytes, bytes]]) -> int:
        """Send all and wait until all replicas in sync have them; the offset of the first."""
        producer = self._opened()
        offsets: list[int] = []
        errors: list[KafkaError] = []
        for key, value in notices:
            producer.produce(topic, value, key, partition=0, on_delivery=_receipt(offsets, errors))
        if producer.flush(_SECONDS) or errors:
            self._forget()
            raise KafkaException(errors[0] if errors else KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 -- so called
        return offsets[0]

    def _opened(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._config.producer())
        return self._producer


def _receipt(offsets: list[int], errors: list[KafkaError]) -> Callable[[KafkaError | None, Message], None]:
    def told(error: KafkaError | None, message: Message) -> None:
        if error is None:
            offsets.append(int(message.offset() or 0))
        else:
            errors.append(error)

    return told


def _parts(data: bytes) -> list[bytes]:
    return [data[start : start + _PART_BYTES] for start in range(0, max(1, len(data)), _PART_BYTES)]
