"""Reading chains: one consumer for all topics of chains, and a bounded window of recent records for each."""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.engines.errors import EngineError, LedgerDamagedError
from producers.engines.kafka.errors import DENIED, BrokerError, DeniedError, reason_of, typed_errors
from producers.engines.kafka.index import NEAR
from producers.engines.kafka.messages import Head
from producers.engines.kafka.patience import ATTEMPT_SECONDS, ride_out
from producers.engines.kafka.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from producers.engines.kafka.config import KafkaConfig
    from producers.engines.kafka.ends import Ends
    from producers.engines.kafka.topics import Topics

_BATCH = 1000
_ALL_BYTES = 64 << 20
_POLL_SECONDS = 0.1
_SECONDS = 30.0
_GONE_SECONDS = 3.0
_SILENT_SECONDS = 5.0
_SEQ_DIGITS = 18
"""More than any seq has; with them it is still a number of Avro's."""


class Framing(Protocol):
    """What stands around a record in a message."""

    def prepare(self) -> None:
        """Have at hand what writing needs."""

    def frame(self, record: bytes) -> bytes:
        """A record in its frame."""

    def record(self, framed: bytes | None) -> bytes:
        """The record of a message."""


class Records:
    """The committed records of every chain; any thread may use it, one at a time reads from Kafka."""

    def __init__(
        self, config: KafkaConfig, topics: Topics, framer: Framing, ends: Ends, closed: Callable[[], bool]
    ) -> None:
        self._config = config
        self._topics = topics
        self._framer = framer
        self._ends = ends
        self._closed = closed
        self._lock = threading.Lock()
        self._streams: dict[str, Stream] = {}
        self._by_topic: dict[str, Stream] = {}
        self._consumer: Consumer | None = None

    def read(self, chain: str, start: int, end: int, size: int) -> list[bytes]:
        """The records ``start`` up to ``end`` of a chain of which ``size`` are committed.

        Raises:
            LedgerDamagedError: the topic lacks a record, or holds one that is not the ledger's.
            BrokerError: Kafka cannot be reached.
        """
        if start >= end:
            return []
        with self._lock, typed_errors("reading a chain"):
            stream = self._stream(chain)
            stream.read_at = time.monotonic()
            found = self._collect(stream, start, end, size)
            stream.trim()
            self._bound()
            return found

    def counts(self, heads: Mapping[str, Head], ends: Mapping[str, int]) -> dict[str, int]:
        """How many committed records the topics of chains hold, of which these heads are known.

        ``ends``: the offsets up to which every one is read. A broker that leads a topic since a moment ago may take it
        for shorter than it is.

        Raises:
            LedgerDamagedError: a topic holds what is not the ledger's.
            BrokerError: Kafka cannot be reached.
        """
        with self._lock, typed_errors("reading chains"):
            streams = self._anew(heads)
            for stream in streams:
                self._read_out(stream, ends[stream.chain])
            return {each.chain: each.newest[0] + 1 if each.newest else 0 for each in streams}

    def firsts(self, ends: Mapping[str, int]) -> dict[str, bytes]:
        """The first records of topics that end there, where there are any; nothing in it where that is no record.

        Raises:
            BrokerError: Kafka cannot be reached.
        """
        with self._lock, typed_errors("reading chains"):
            found: dict[str, bytes] = {}
            streams, deadline = self._anew(dict.fromkeys(ends, Head(0, 0, 0))), time.monotonic() + _SECONDS
            while streams:
                begun = [each for each in streams if each.next is not None or each.read_up_to(ends[each.chain])]
                for stream in begun:
                    if (first := _first_of(stream)) is not None:
                        found[stream.chain] = first
                    self._let_go(stream)
                    deadline = time.monotonic() + _SECONDS
                streams = [each for each in streams if each not in begun]
                if streams:
                    self._pump(streams[0], deadline)
            return found

    def newest(self, chain: str) -> tuple[int, int] | None:
        """Seq and offset of the last record of a chain that was read, if one was."""
        stream = self._streams.get(chain)
        return None if stream is None else stream.newest

    def prefetch(self, starts: Mapping[str, int]) -> None:
        """Have records of chains brought together, each from where it will be read, if that is known without a search.

        Raises:
            BrokerError: Kafka cannot be reached.
        """
        with self._lock, typed_errors("reading chains"):
            if self._held() > _ALL_BYTES // 2:
                return  # Others would have to give way to what is not asked for yet.
            places = [(stream, offset) for stream, offset in self._ahead(starts) if offset is not None]
            for stream, _ in places:
                stream.clear()
                stream.ended, stream.assigned, stream.read_at = False, True, time.monotonic()
            if places:
                self._opened().incremental_assign([self._place(stream, offset) for stream, offset in places])

    def note(self, chain: str, seq: int, offset: int) -> None:
        """Learn where a record lies."""
        with self._lock:
            self._stream(chain).index.note(seq, offset)

    def close(self) -> None:
        """Give the consumer back."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None

    def _stream(self, chain: str) -> Stream:
        if chain not in self._streams:
            stream = Stream(chain)
            self._streams[chain] = self._by_topic[self._topics.ledger(chain)] = stream
        return self._streams[chain]

    def _ahead(self, starts: Mapping[str, int]) -> Iterator[tuple[Stream, int | None]]:
        for chain, start in starts.items():
            stream = self._stream(chain)
            if not stream.assigned and not stream.has(start) and stream.fault is None:
                yield stream, stream.index.near(start)

    def _place(self, stream: Stream, offset: int) -> TopicPartition:
        return TopicPartition(self._topics.ledger(stream.chain), 0, offset)

    def _collect(self, stream: Stream, start: int, end: int, size: int) -> list[bytes]:
        found: list[bytes] = []
        deadline, looked_again = time.monotonic() + _SECONDS, False
        silent_until, sought = time.monotonic() + _SILENT_SECONDS, -1
        if not stream.has(start):
            stream.fault = None
        while start + len(found) < end:
            wanted = start + len(found)
            if stream.has(wanted):
                found += islice(stream.window, wanted - stream.first, end - stream.first)
                stream.trim()
                deadline = time.monotonic() + _SECONDS
                silent_until = time.monotonic() + _SILENT_SECONDS
                continue
            if stream.fault is not None:
                if looked_again:
                    raise stream.fault
                # What the consumer still held from an earlier place would look wrong as well: look once more.
                looked_again, stream.fault = True, None
                stream.clear()
            if time.monotonic() > silent_until:
                self._require_more(stream, wanted)
                # After an outage a consumer may have stopped without a word: have it begin anew.
                silent_until = time.monotonic() + _SILENT_SECONDS
                self._unassign(stream)
                stream.clear()
            if not self._brings(stream, wanted):
                if sought == wanted and stream.next is not None and stream.first > wanted:
                    stream.fault, sought = _lacking(stream, wanted), -1
                    continue
                self._seek(stream, wanted, size, deadline)
                sought = wanted
            self._pump(stream, deadline)
        return found

    def _require_more(self, stream: Stream, wanted: int) -> None:
        """What is committed may still lack its marker; where nothing is unsettled, it is gone.

        Raises:
            LedgerDamagedError: the topic ends for good before a record.
        """
        place = (self._topics.ledger(stream.chain), 0)
        if stream.ended and stream.fault is None and stream.end >= self._ends.written([place])[place]:
            raise _lacking(stream, wanted)

    def _anew(self, heads: Mapping[str, Head]) -> list[Stream]:
        """Streams of which nothing is held, nor known of their ends; the consumer brings them from their heads on."""
        streams = [self._stream(chain) for chain in heads]
        for stream in streams:
            self._unassign(stream)
            stream.clear()
            stream.ended, stream.fault, stream.newest, stream.read_at = False, None, None, time.monotonic()
            if heads[stream.chain].seq:
                stream.index.note(heads[stream.chain].seq, heads[stream.chain].offset)
        self._opened().incremental_assign([self._place(each, heads[each.chain].offset) for each in streams])
        for stream in streams:
            stream.assigned = True
        return streams

    def _let_go(self, stream: Stream) -> None:
        """Know nothing of a topic any more: it may be no chain's."""
        self._unassign(stream)
        del self._streams[stream.chain], self._by_topic[self._topics.ledger(stream.chain)]

    def _read_out(self, stream: Stream, end: int) -> None:
        """Read on until the topic ends, and up to an offset at least; then let go of it."""
        deadline, reached = time.monotonic() + _SECONDS, stream.newest
        while not stream.read_up_to(end):
            if not stream.assigned:  # It was in the way of another one.
                self._assign(stream, stream.newest[1] + 1 if stream.newest else 0)
            self._pump(stream, deadline)
            stream.trim()
            self._bound()
            if stream.newest != reached:
                deadline, reached = time.monotonic() + _SECONDS, stream.newest
        if stream.fault is not None:
            raise stream.fault
        self._unassign(stream)
        stream.clear()

    def _brings(self, stream: Stream, wanted: int) -> bool:
        """Whether the consumer will soon come by a record."""
        return stream.assigned and (stream.next is None or 0 <= wanted - stream.next <= NEAR)

    def _seek(self, stream: Stream, wanted: int, size: int, deadline: float) -> None:
        """Have the consumer stand at a record, or a little before it."""
        low, high = stream.index.gaps(wanted, size, self._end(stream))
        high = high if wanted else low
        while high - low > NEAR:
            middle = (low + high) // 2
            met = self._first(stream, wanted + middle, deadline)
            if met is not None and met[0] <= wanted:
                low = met[1] - met[0]
            else:
                high = middle
        self._assign(stream, wanted + low)

    def _first(self, stream: Stream, offset: int, deadline: float) -> tuple[int, int] | None:
        """Seq and offset of the first record at an offset or behind it; None if there is none."""
        self._assign(stream, offset)
        while stream.next is None and not stream.ended:
            self._pump(stream, deadline)
        return None if stream.next is None else (stream.first, stream.first_offset)

    def _end(self, stream: Stream) -> int:
        place = TopicPartition(self._topics.ledger(stream.chain), 0)
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

    def _unlisted(self, topic: str) -> bool:
        """Whether brokers know of the ledger and not of a topic; a client by itself says so of any in an outage."""
        listed = self._opened().list_topics(timeout=ATTEMPT_SECONDS).topics
        return self._topics.writers in listed and topic not in listed

    def _opened(self) -> Consumer:
        if self._closed():
            raise BrokerError("The ledger is closed.")
        if self._consumer is None:
            # A record that is gone must be noticed: this reader never goes on somewhere else by itself.
            self._consumer = Consumer(self._config.consumer("readers", reset="error"))
        return self._consumer

    def _assign(self, stream: Stream, offset: int) -> None:
        self._unassign(stream)
        stream.clear()
        stream.ended = False
        self._opened().incremental_assign([self._place(stream, offset)])
        stream.assigned = True

    def _unassign(self, stream: Stream) -> None:
        if stream.assigned:
            self._opened().incremental_unassign([TopicPartition(self._topics.ledger(stream.chain), 0)])
            stream.assigned = False

    def _pump(self, wanting: Stream, deadline: float) -> None:
        """Take what the consumer has, for whomever it is."""
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
                    self._unassign(stream)

    def _take_or_stop(self, stream: Stream, message: Message) -> None:
        try:
            self._take(stream, message)
        except EngineError as fault:
            self._unassign(stream)
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
        seq, value, offset = _number(message.key()), message.value(), int(message.offset() or 0)
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

    def _held(self) -> int:
        return sum(stream.held for stream in self._streams.values())

    def _bound(self) -> None:
        """Forget the windows of those chains that were read longest ago, when all together hold too much."""
        held = self._held()
        for stream in sorted(self._streams.values(), key=lambda stream: stream.read_at):
            if held <= _ALL_BYTES:
                return
            held -= stream.held
            self._unassign(stream)
            stream.clear()


def _lacking(stream: Stream, wanted: int) -> LedgerDamagedError:
    return LedgerDamagedError(f"Record {wanted} of chain {stream.chain!r} is gone from Kafka.")


def _number(key: bytes | None) -> int | None:
    """The seq that a message's key says."""
    return int(key) if key is not None and key.isdigit() and len(key) <= _SEQ_DIGITS else None


def _first_of(stream: Stream) -> bytes | None:
    """The first record of a topic whose first messages were taken; None if there are none.

    Raises:
        EngineError: it cannot be read, whatever is in it.
    """
    if stream.fault is not None and not isinstance(stream.fault, LedgerDamagedError):
        raise stream.fault
    if stream.next is None and stream.fault is None:
        return None
    return stream.window[0] if stream.window and stream.first == 0 else b""


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
