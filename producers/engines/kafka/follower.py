"""The thread that reads what is committed beside the ledger's records, and keeps a handle's state by it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition
from tensorguard.ledger.errors import LedgerError

from producers.engines.errors import EngineError, LedgerDamagedError
from producers.engines.group import GroupCommit
from producers.engines.kafka import messages
from producers.engines.kafka.ends import Ends, Place
from producers.engines.kafka.errors import DENIED, BrokerError, DeniedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producers.engines.kafka.config import KafkaConfig
    from producers.engines.kafka.state import State
    from producers.engines.kafka.topics import Topics

POLL_SECONDS = 0.1
_BATCH = 2000
_SECONDS = 30.0
_HUNG_SECONDS = 5.0
LATELY_SECONDS = 600.0
"""Of replies none are read that are older: there may be millions, and all that stays true is told elsewhere as well."""
_LAST = 64
"""But the last ones always are: of a commit a broker may have kept no other trace."""


class Follower:
    """Follows the small topics of a ledger; ``sync`` waits until it knows all there is now, but for old replies."""

    def __init__(self, config: KafkaConfig, topics: Topics, ends: Ends, state: State) -> None:
        self._topics = topics
        self._ends = ends
        self._state = state
        transactional = [topics.replies, topics.writers, topics.dead_letters]
        self._transactional = {(topic, p) for topic in transactional for p in range(config.partitions)}
        self._places = [*sorted(self._transactional), (topics.checkpoints, 0)]
        self._reached: dict[Place, int] = dict.fromkeys(self._places, 0)
        self._hung: dict[Place, int] = {}
        self._syncs: GroupCommit[None, None] = GroupCommit(self._sync)
        self._consumer = Consumer(config.consumer("readers", reset="earliest"))
        self._replies = [(topics.replies, partition) for partition in range(config.partitions)]
        self._thread = threading.Thread(target=self._run, name="kafka-follower", daemon=True)
        self._thread.start()

    def sync(self) -> None:
        """Wait until everything is known that was committed before this call. Concurrent calls share one look.

        Raises:
            BrokerError: Kafka does not answer in time.
        """
        self._syncs.submit([None])

    def close(self) -> None:
        """End the thread; the state is marked as closed before."""
        self._thread.join()
        self._consumer.close()

    def _sync(self, callers: Sequence[None]) -> Sequence[None]:
        # In this order: what the second look finds settled was all written before the first one, or after it.
        written, settled = self._ends.written(self._places), self._ends.settled(self._places)
        needed = {place: self._needed(place, written[place], settled[place]) for place in self._places}
        # A writer that hangs in its transaction holds nobody up for long: what it has not committed is not there.
        if not self._state.wait(lambda: self._has(needed), _HUNG_SECONDS):
            self._hung = {place: settled[place] for place in self._places if settled[place] < written[place]}
            needed = {place: min(needed[place], settled[place] - 1) for place in self._places}
            if not self._state.wait(lambda: self._has(needed), _SECONDS) and not self._state.closed:
                raise BrokerError("Kafka does not answer in time.")
        return callers

    def _needed(self, place: Place, written: int, settled: int) -> int:
        if self._hung.get(place) == settled:  # And nobody twice.
            return min(written, settled) - 1
        # The last thing in a settled partition of transactions is a marker, which no consumer hears of at once.
        return written - 1 if place in self._transactional and written == settled else written

    def _has(self, needed: dict[Place, int]) -> bool:
        return all(self._reached[place] >= offset for place, offset in needed.items())

    def _run(self) -> None:
        begun = False
        while not self._state.closed and not begun:
            begun = self._begin()
        while not self._state.closed:
            first = self._consumer.poll(POLL_SECONDS)
            if first is not None:
                self._take([first, *self._consumer.consume(_BATCH, 0)])

    def _begin(self) -> bool:
        """Go to where reading begins; whether brokers told where that is."""
        try:
            lately = self._ends.since(self._replies, time.time() - LATELY_SECONDS, least=_LAST)
        except EngineError as error:
            if isinstance(error, DeniedError):
                with self._state.changed:
                    self._state.fail(error)
            return False
        self._consumer.assign([TopicPartition(*place, lately.get(place, OFFSET_BEGINNING)) for place in self._places])
        with self._state.changed:
            self._reached.update(lately)
            self._state.changed.notify_all()
        return True

    def _take(self, batch: Sequence[Message]) -> None:
        with self._state.changed:
            try:
                for message in batch:
                    self._take_one(message)
            except (LedgerError, ValueError):
                # What one of ours did not write would be silently missed from here on: better to know nothing at all.
                self._state.fail(LedgerDamagedError("A topic beside the ledger holds a message that is not ours."))
            self._state.changed.notify_all()

    def _take_one(self, message: Message) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is None:
            self._apply(message, str(topic), int(partition or 0))
            self._reached[str(topic), int(partition or 0)] = int(offset or 0) + 1
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- librdkafka's own errors are called so
            self._reached[str(topic), int(partition or 0)] = int(offset or 0)
        elif error.code() in DENIED:
            self._state.fail(DeniedError(f"Kafka does not allow reading the ledger's topics ({error.name()})."))
        elif error.code() in _GONE:
            self._state.fail(LedgerDamagedError(f"A topic beside the ledger is gone ({error.name()})."))

    def _apply(self, message: Message, topic: str, partition: int) -> None:
        key, value = bytes(message.key() or b""), message.value()
        if value is None:
            if topic == self._topics.dead_letters:
                self._state.removed(int(key))
            return
        data = bytes(value)
        if topic == self._topics.replies:
            self._apply_replies(partition, data, _written_at(message))
        elif topic == self._topics.writers:
            self._apply_writer(partition, key, data)
        elif topic == self._topics.checkpoints:
            self._apply_checkpoint(key, data)
        else:
            self._state.set_aside(*messages.decode_dead_letter(data))

    def _apply_replies(self, partition: int, data: bytes, at: float) -> None:
        by = messages.decided_by(data)
        if by is None or not self._state.has_written(partition, by):
            self._state.decided(partition, messages.decode_decided(data), at)

    def _apply_writer(self, partition: int, key: bytes, data: bytes) -> None:
        chain = messages.chain_of(key)
        if chain is not None:
            self._state.head(partition, chain, messages.decode_head(data))
        elif key == messages.WRITER_KEY:
            self._state.writer(partition, messages.decode_writer(data))

    def _apply_checkpoint(self, key: bytes, data: bytes) -> None:
        chain = messages.snapshot_of(key)
        if chain is not None:
            self._state.stored(chain, messages.decode_stored(data))
        else:
            self._state.checkpoints[key.decode()] = data


_GONE = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 -- librdkafka's own errors are called so
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 -- the same
    }
)


def _written_at(message: Any) -> float:
    kind, milliseconds = message.timestamp()
    return milliseconds / 1000 if kind else time.time()
