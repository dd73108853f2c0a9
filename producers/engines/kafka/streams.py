"""The one consumer for the topics of all chains, and what is held of each of them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.engines.errors import EngineError, LedgerDamagedError
from producers.engines.kafka.errors import DENIED, BrokerError, DeniedError, reason_of
from producers.engines.kafka.patience import ATTEMPT_SECONDS, ride_out
from producers.engines.kafka.places import seq_of
from producers.engines.kafka.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from producers.engines.kafka.config import KafkaConfig
    from producers.engines.kafka.ends import Place
    from producers.engines.kafka.topics import Topics

_BATCH = 1000
_ALL_BYTES = 64 << 20
_POLL_SECONDS = 0.1
_GONE_SECONDS = 3.0
_GONE = frozenset(
    {
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 -- librdkafka's own errors are called so
    }
)
_ABSENT = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 -- librdkafka's own errors are called so
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 -- the same
    }
)


class Framing(Protocol):
    """What stands around a record in a message."""

    def prepare(self) -> None:
        """Have at hand what writing needs."""

    def frame(self, record: bytes) -> bytes:
        """A record in its frame."""

    def record(self, framed: bytes | None) -> bytes:
        """The record of a message."""


class Streams:
    """The streams of all chains that were asked for; who uses it holds its ``lock``."""

    def __init__(self, config: KafkaConfig, topics: Topics, framer: Framing, closed: Callable[[], bool]) -> None:
        self.lock = threading.Lock()
        self._config = config
        self._topics = topics
        self._framer = framer
        self._closed = closed
        self._streams: dict[str, Stream] = {}
        self._by_topic: dict[str, Stream] = {}
        self._consumer: Consumer | None = None

    def of(self, chain: str) -> Stream:
        """The stream of a chain."""
        if chain not in self._streams:
            stream = Stream(chain)
            self._streams[chain] = self._by_topic[self._topics.ledger(chain)] = stream
        return self._streams[chain]

    def newest(self, chain: str) -> tuple[int, int] | None:
        """Seq and offset of the last record of a chain that was read, if one was."""
        stream = self._streams.get(chain)
        return None if stream is None else stream.newest

    def place(self, stream: Stream) -> Place:
        """The partition that a stream is read from."""
        return self._topics.ledger(stream.chain), 0

    @property
    def held(self) -> int:
        """The bytes of all windows together."""
        return sum(stream.held for stream in self._streams.values())

    @property
    def roomy(self) -> bool:
        """Whether more can be brought before it is asked for, with nothing having to give way."""
        return self.held <= _ALL_BYTES // 2

    def anew(self, streams: Iterable[Stream]) -> None:
        """Hold nothing of them, and know nothing of their ends."""
        for stream in streams:
            self.unassign(stream)
            stream.clear()
            stream.ended, stream.fault, stream.newest, stream.read_at = False, None, None, time.monotonic()

    def bring(self, places: Sequence[tuple[Stream, int]]) -> None:
        """Have the consumer bring streams that it does not bring, each from an offset on."""
        if places:
            self._opened().incremental_assign([TopicPartition(*self.place(each), offset) for each, offset in places])
        for stream, _ in places:
            stream.assigned = True

    def assign(self, stream: Stream, offset: int) -> None:
        """Have the consumer bring a stream from an offset on, and hold nothing else of it."""
        self.unassign(stream)
        stream.clear()
        stream.ended = False
        self.bring([(stream, offset)])

    def unassign(self, stream: Stream) -> None:
        """Have the consumer bring a stream no longer."""
        if stream.assigned:
            self._opened().incremental_unassign([TopicPartition(*self.place(stream))])
            stream.assigned = False

    def let_go(self, stream: Stream) -> None:
        """Know nothing of a topic any more: it may be no chain's."""
        self.unassign(stream)
        del self._streams[stream.chain], self._by_topic[self._topics.ledger(stream.chain)]

    def pump(self, wanting: Stream, deadline: float) -> None:
        """Take what the consumer has, for whomever it is.

        Raises:
            BrokerError: it has nothing, and the deadline (of the steady clock, seconds) is over.
        """
        consumer = self._opened()
        first = consumer.poll(_POLL_SECONDS)
        if first is None:
            if time.monotonic() > deadline:
                raise BrokerError("Kafka does not bring the ledger's records in time.")
            return
        for message in (first, *consumer.consume(_BATCH, 0)):
            stream = self._by_topic.get(str(message.topic()))
            if stream is not None and stream.assigned:
                self._take_or_stop(stream, message)
                if stream is not wanting and stream.full:
                    self.unassign(stream)

    def bound(self) -> None:
        """Forget the windows of those chains that were read longest ago, when all together hold too much."""
        held = self.held
        for stream in sorted(self._streams.values(), key=lambda stream: stream.read_at):
            if held <= _ALL_BYTES:
                return
            held -= stream.held
            self.unassign(stream)
            stream.clear()

    def end(self, stream: Stream) -> int:
        """The offset at which a chain's topic ends, aborted messages and markers included.

        Raises:
            LedgerDamagedError: the topic is gone.
            BrokerError: Kafka cannot be reached.
        """
        place = TopicPartition(*self.place(stream))
        missed: list[float] = []

        def ask() -> int:
            try:
                return int(self._opened().get_watermark_offsets(place, timeout=ATTEMPT_SECONDS)[1])
            except KafkaException as error:
                # A broker may not have heard of a new topic yet; one that is gone stays so.
                if reason_of(error).code() in _ABSENT and self._unlisted(place.topic):
                    missed.append(time.monotonic())
                    if missed[-1] - missed[0] > _GONE_SECONDS:
                        raise LedgerDamagedError(f"The topic of chain {stream.chain!r} is gone from Kafka.") from error
                raise

        return ride_out(ask, time.sleep)

    def close(self) -> None:
        """Give the consumer back."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _opened(self) -> Consumer:
        if self._closed():
            raise BrokerError("The ledger is closed.")
        if self._consumer is None:
            # A record that is gone must be noticed: this reader never goes on somewhere else by itself.
            self._consumer = Consumer(self._config.consumer("readers", reset="error"))
        return self._consumer

    def _take_or_stop(self, stream: Stream, message: Message) -> None:
        try:
            self._take(stream, message)
        except EngineError as fault:
            self.unassign(stream)
            stream.fault, stream.ended = fault, True

    def _take(self, stream: Stream, message: Message) -> None:
        error = message.error()
        if error is None:
            self._take_record(stream, message)
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- librdkafka's own errors are called so
            stream.ended, stream.end = True, int(message.offset() or 0)
        elif error.code() in _ABSENT:  # The next look at where its topic ends tells what of it is true.
            raise BrokerError(f"Kafka does not know the topic of chain {stream.chain!r} now ({error.name()}).")
        elif error.code() in _GONE:
            raise LedgerDamagedError(f"Records of chain {stream.chain!r} are gone from Kafka ({error.name()}).")
        elif error.code() in DENIED:
            raise DeniedError(f"Kafka does not allow reading chain {stream.chain!r} ({error.name()}).")

    def _take_record(self, stream: Stream, message: Message) -> None:
        seq, value, offset = seq_of(message.key()), message.value(), int(message.offset() or 0)
        if seq is None or value is None or stream.next not in (None, seq):
            if seq is not None:
                stream.cut(seq)  # Two messages for one record: which of them is it?
            raise LedgerDamagedError(
                f"Topic {message.topic()} holds a message at {offset} that is not the next record."
            )
        record = self._framer.record(bytes(value))
        if stream.next is None:
            stream.first_offset = offset
        stream.index.note(seq, offset)
        if stream.newest is None or seq > stream.newest[0]:
            stream.newest = (seq, offset)
        stream.add(seq, record)

    def _unlisted(self, topic: str) -> bool:
        """Whether brokers know of the ledger and not of a topic; a client by itself says so of any in an outage."""
        listed = self._opened().list_topics(timeout=ATTEMPT_SECONDS).topics
        return self._topics.writers in listed and topic not in listed
