"""Records of a commit that brokers acknowledged and never marked as committed.

A commit is acknowledged when its coordinator has noted it; the markers come after that, one in each partition. A broker
that is killed in between writes them when it is back. Those of Kafka 4.3.0 to 4.4.0 may leave them out then: they take
a partition that nobody leads in that moment for deleted (KAFKA-20734). Where one marker of a commit was written and
another was not, something tells of records that lie in their topic as if they had never been committed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.engines.errors import EngineError
from producers.engines.kafka.errors import BrokerError, typed_errors
from producers.engines.kafka.places import seq_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from producers.engines.kafka.config import KafkaConfig
    from producers.engines.kafka.messages import Head
    from producers.engines.kafka.streams import Framing
    from producers.engines.kafka.topics import Topics

_BATCH = 1000
_POLL_SECONDS = 0.1
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Framed:
    """A message of a chain's topic."""

    offset: int
    seq: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Behind:
    """What a topic holds behind a chain's last committed record; ``end``: the offset at which it ended."""

    messages: Sequence[Framed]
    end: int
    record_of: Callable[[bytes], bytes]

    def records(self, start: int, head: Head) -> Sequence[Framed] | None:
        """The messages of the records from ``start`` up to a head; None if they are not there.

        The last of them is known by its digest, and the others by lying right before it: what a transaction wrote to a
        partition lies in a row. So no attempt that was given up is taken for one.
        """
        for at in range(len(self.messages), 0, -1):
            row = self.messages[max(0, at - (head.size - start)) : at]
            if _in_row(row, start, head.size) and self._digest(row[-1]) == head.last:
                return row
        return None

    def _digest(self, message: Framed) -> bytes | None:
        try:
            return sha256(self.record_of(message.value)).digest()
        except EngineError:  # It is no record.
            return None


def _in_row(messages: Sequence[Framed], start: int, end: int) -> bool:
    return [each.seq for each in messages] == list(range(start, end)) and all(
        after.offset == before.offset + 1 for before, after in pairwise(messages)
    )


class Unmarked:
    """Reads topics of chains as no reader may: with what is not committed."""

    def __init__(self, config: KafkaConfig, topics: Topics, framer: Framing) -> None:
        self._settings = config.consumer("readers", reset="error") | {"isolation.level": "read_uncommitted"}
        self._topics = topics
        self._framer = framer

    def behind(self, offsets: Mapping[str, int]) -> dict[str, Behind]:
        """All records, and attempts at such, that lie in chains' topics from offsets on.

        Raises:
            BrokerError: Kafka does not bring them in time.
        """
        chains = {self._topics.ledger(chain): chain for chain in offsets}
        consumer = Consumer(self._settings)
        try:
            with typed_errors("reading chains' ends"):
                consumer.assign([TopicPartition(topic, 0, offsets[chain]) for topic, chain in chains.items()])
                ends, found = _read_out(consumer, list(chains))
        finally:
            consumer.close()
        return {chain: Behind(found[topic], ends[topic], self._framer.record) for topic, chain in chains.items()}


def _read_out(consumer: Consumer, topics: Sequence[str]) -> tuple[dict[str, int], dict[str, list[Framed]]]:
    """Where topics end, and their messages with the number of a record."""
    ends: dict[str, int] = {}
    found: dict[str, list[Framed]] = {topic: [] for topic in topics}
    deadline = time.monotonic() + _SECONDS
    while len(ends) < len(topics):
        batch = consumer.consume(_BATCH, _POLL_SECONDS)
        if batch:
            deadline = time.monotonic() + _SECONDS
        elif time.monotonic() > deadline:
            raise BrokerError("Kafka does not bring the ends of chains in time.")
        for message in batch:
            topic, error, offset = str(message.topic()), message.error(), int(message.offset() or 0)
            if error is None:
                found[topic] += _framed(message, offset)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- librdkafka's own errors are called so
                ends[topic] = offset
            else:
                raise KafkaException(error)
    return ends, found


def _framed(message: Message, offset: int) -> Iterator[Framed]:
    key, value = message.key(), message.value()
    seq = seq_of(key)
    if seq is not None and key is not None and value is not None:
        yield Framed(offset, seq, bytes(key), bytes(value))
