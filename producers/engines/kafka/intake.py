"""The intake: signed commands on their way to the sequencer of their chain's partition."""

from __future__ import annotations

import threading
from bisect import bisect_right
from hashlib import sha256
from operator import attrgetter
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from tensorguard.ledger.envelope import named_chain
from tensorguard.ledger.errors import LedgerError

from producers.engines.errors import LedgerDamagedError
from producers.engines.group import GroupCommit
from producers.engines.kafka.errors import BrokerError, MessageTooLargeError, reason_of, typed_errors
from producers.engines.kafka.follower import POLL_SECONDS
from producers.engines.kafka.places import offset_after, partition_of, position_of
from producers.engines.port import IntakeEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producers.engines.kafka.config import KafkaConfig
    from producers.engines.kafka.ends import Ends
    from producers.engines.kafka.state import State
    from producers.engines.kafka.topics import Topics

_BATCH = 2000
BUFFERED = 8192
_BUFFERED_BYTES = 64 << 20
_SECONDS = 35.0
_FULL_SECONDS = 0.1


def hashed_partition(chain: str, partitions: int) -> int:
    """The intake partition of a chain that is not open yet: the same for every submitter."""
    return int.from_bytes(sha256(chain.encode()).digest()[:8], "big") % partitions


def claimed_chain(data: bytes) -> str | None:
    """The chain that a command names; None if it is no signed command."""
    try:
        return named_chain(data)
    except LedgerError:
        return None


class Submissions:
    """Puts commands into the intake; what threads hand in at once goes out together."""

    def __init__(self, config: KafkaConfig, topic: str, partition_of: Callable[[str], int]) -> None:
        self._config = config
        self._topic = topic
        self._partition_of = partition_of
        self._producer: Producer | None = None
        self._group: GroupCommit[bytes, int] = GroupCommit(self._send)

    def submit(self, commands: Sequence[bytes]) -> Sequence[int]:
        """The positions of commands, each in its chain's partition, once all replicas in sync have them.

        Raises:
            BrokerError: some may have been taken: send them again, a command has effect once.
            MessageTooLargeError: one is over the limit of a message.
        """
        return self._group.submit(commands)

    def close(self) -> None:
        """Give the producer back; nobody waits for what it may still hold."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(POLL_SECONDS)

    def _send(self, commands: Sequence[bytes]) -> list[int]:
        positions, errors = [0] * len(commands), list[KafkaError]()
        try:
            with typed_errors("taking in commands"):
                producer = self._opened()
                for number, data in enumerate(commands):
                    self._produce(producer, data, _Receipt(number, positions, errors))
                if producer.flush(_SECONDS) or errors:
                    raise KafkaException(errors[0] if errors else KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 -- so called
        except BrokerError:
            # What an idempotent producer could not deliver it cannot leave out either: the next one begins anew.
            self.close()
            raise
        return positions

    def _produce(self, producer: Producer, data: bytes, receipt: _Receipt) -> None:
        chain = claimed_chain(data)
        partition = 0 if chain is None else self._partition_of(chain)
        key = None if chain is None else chain.encode()
        while True:
            try:
                producer.produce(self._topic, data, key, partition=partition, on_delivery=receipt)
            except BufferError:
                producer.poll(_FULL_SECONDS)
            except KafkaException as error:
                if reason_of(error).code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    raise MessageTooLargeError(f"A command of {len(data)} bytes is too large.") from error
                raise
            else:
                return

    def _opened(self) -> Producer:
        if self._producer is None:
            self._producer = Producer(self._config.producer())
        return self._producer


class _Receipt:
    """Writes down where one command went."""

    __slots__ = ("_errors", "_number", "_positions")

    def __init__(self, number: int, positions: list[int], errors: list[KafkaError]) -> None:
        self._number = number
        self._positions = positions
        self._errors = errors

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._errors.append(error)
        else:
            self._positions[self._number] = position_of(int(message.partition() or 0), int(message.offset() or 0))


class Intake:
    """Follows one intake partition from where everything is decided; holds what waits, so much and no more."""

    def __init__(self, config: KafkaConfig, topics: Topics, partition: int, *, state: State, ends: Ends) -> None:
        self._ends = ends
        self._place = (topics.intake, partition)
        self._partition = partition
        self._state = state
        self._entries: list[IntakeEntry] = []
        self._bytes = 0
        self._reached = 0
        self._consumer = Consumer(config.consumer("readers", reset="earliest"))
        self._reached = offset_after(state.position(partition))
        self._consumer.assign([TopicPartition(*self._place, self._reached)])
        self._thread = threading.Thread(target=self._run, name="kafka-intake", daemon=True)
        self._thread.start()

    def entries(self, after: int, limit: int, *, complete: bool = True) -> list[IntakeEntry]:
        """Entries behind a position that are not decided yet: all that were taken in before, or those at hand.

        Raises:
            BrokerError: Kafka does not answer in time.
        """
        if complete and len(self._entries) < limit:
            self._catch_up(limit)
        with self._state.changed:
            self._trim()
            first = bisect_right(self._entries, after, key=attrgetter("position"))
            return self._entries[first : first + limit]

    def _catch_up(self, limit: int) -> None:
        end = self._ends.written([self._place])[self._place]

        def complete() -> bool:
            return self._reached >= end or len(self._entries) >= min(limit, BUFFERED)

        if not self._state.wait(complete, _SECONDS) and not self._state.closed:
            raise BrokerError("Kafka does not bring the intake in time.")

    def wait(self, after: int, timeout: float) -> bool:
        """Block until there is an entry behind a position, or seconds passed."""

        def ready() -> bool:
            behind = max(after, self._state.position(self._partition))
            return bool(self._entries) and self._entries[-1].position > behind

        return self._state.wait(ready, timeout)

    def data(self, position: int) -> bytes | None:
        """The bytes of an entry that is held."""
        with self._state.changed:
            at = bisect_right(self._entries, position - 1, key=attrgetter("position"))
            found = self._entries[at] if at < len(self._entries) else None
            return found.data if found is not None and found.position == position else None

    def close(self) -> None:
        """End the thread; the state is marked as closed before."""
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        while not self._state.closed:
            if not self._room():
                continue
            first = self._consumer.poll(POLL_SECONDS)
            if first is not None:
                self._take([first, *self._consumer.consume(_BATCH, 0)])

    def _room(self) -> bool:
        def roomy() -> bool:
            self._trim()
            return self._state.closed or (len(self._entries) < BUFFERED and self._bytes < _BUFFERED_BYTES)

        with self._state.changed:
            return self._state.changed.wait_for(roomy, POLL_SECONDS) and not self._state.closed

    def _take(self, batch: Sequence[Message]) -> None:
        with self._state.changed:
            for message in batch:
                self._take_one(message)
            self._state.changed.notify_all()

    def _take_one(self, message: Message) -> None:
        error, offset = message.error(), int(message.offset() or 0)
        ended = error is not None and error.code() == KafkaError._PARTITION_EOF  # noqa: SLF001 -- librdkafka's own errors are called so
        if (error is None or ended) and offset < self._reached:
            self._state.fail(_went_back(self._partition, self._reached))
        elif error is None:
            data = bytes(message.value() or b"")
            self._entries.append(IntakeEntry(position_of(self._partition, offset), data))
            self._bytes += len(data)
            self._reached = offset + 1
        elif ended:
            self._reached = offset

    def _trim(self) -> None:
        """Let go of what is decided."""
        decided = bisect_right(self._entries, self._state.position(self._partition), key=attrgetter("position"))
        if decided:
            self._bytes -= sum(len(entry.data) for entry in self._entries[:decided])
            del self._entries[:decided]


def _went_back(partition: int, reached: int) -> LedgerDamagedError:
    return LedgerDamagedError(
        f"Partition {partition} of the intake ends before offset {reached}, up to which it was read: Kafka has lost "
        "entries, or the topic was made anew. What comes in there would be taken for decided.",
        next_step=f"Put messages of any kind into this partition until it ends at offset {reached}, as with "
        "kafka-console-producer.sh; they are passed over. Then start the sequencer again.",
    )


def fetch(config: KafkaConfig, topics: Topics, position: int) -> bytes:
    """The bytes of the entry at a position, decided or not.

    Raises:
        BrokerError: it is not there any more, or Kafka does not answer in time.
    """
    consumer = Consumer(config.consumer("readers", reset="error"))
    try:
        with typed_errors("reading the intake"):
            consumer.assign([TopicPartition(topics.intake, partition_of(position), offset_after(position) - 1)])
            message = consumer.poll(_SECONDS)
    finally:
        consumer.close()
    if message is None or message.error() is not None or message.offset() != offset_after(position) - 1:
        raise BrokerError(f"The intake does not give back its entry at position {position}.")
    return bytes(message.value() or b"")
