"""The roster on Kafka: a topic of one partition, kept for an hour, beside the ledger's. Brokers stamp what is said.

Who reads starts a little before its end, without a group, and knows of nobody until it has read to where that end was.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from processors.placement.errors import StandingError
from processors.placement.roster import LEASE_SECONDS, Attendance
from processors.placement.standing import Standing
from producers.engines.kafka.errors import typed_errors
from producers.engines.kafka.topics import TopicMaker, Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from producers.engines.kafka import KafkaConfig

_POLL_SECONDS = 0.1
_AGAIN_SECONDS = 1.0
_BEFORE_SECONDS = 60.0
_ASK_SECONDS = 10.0
_LEAVE_SECONDS = 5.0
_SILENT_SECONDS = 5.0
"""A reader that begins anew needs a moment to hear anything: it must not do so more often than that."""
_DELIVERY_MS = 10_000
_LEFT = b"left"
log = structlog.get_logger(__name__)


class KafkaRoster:
    """A :class:`processors.placement.roster.Roster`; it reads from the first question on, in a thread of its own."""

    def __init__(
        self, config: KafkaConfig, lease_seconds: float = LEASE_SECONDS, clock: Callable[[], float] = time.time
    ) -> None:
        topics = Topics(config)
        TopicMaker(config).ensure([topics.of_workers()])
        self._config = config
        self._topic = topics.workers
        self._lease = lease_seconds
        self._next: int | None = None
        self._clock = clock
        self._attendance = Attendance(lease_seconds, strangers_lost=False)
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._undelivered = False
        self._reader: threading.Thread | None = None
        self._closed = threading.Event()
        self._caught_up = threading.Event()

    # -- what is said --------------------------------------------------------------------------------------------

    def announce(self, standing: Standing) -> None:
        """See :class:`processors.placement.roster.Announcer`."""
        self._say(standing.worker, standing.to_bytes())

    def leave(self, worker: str) -> None:
        """See :class:`processors.placement.roster.Announcer`; waits a few seconds for the brokers to have it."""
        self._say(worker, _LEFT)
        with self._lock:
            if self._producer is not None:
                self._producer.flush(_LEAVE_SECONDS)

    def _say(self, worker: str, value: bytes) -> None:
        with self._lock, typed_errors("announcing a trainer"), suppress(BufferError):
            if self._closed.is_set():
                return
            if self._producer is None or self._undelivered:
                # What an idempotent producer could not deliver it cannot leave out either: the next one begins anew.
                self._undelivered, self._producer = False, Producer(self._speaking())
            self._producer.produce(self._topic, value, worker.encode(), partition=0, on_delivery=self._delivered)
            self._producer.poll(0)

    def _speaking(self) -> dict[str, object]:
        return {**self._config.producer(), "message.timeout.ms": _DELIVERY_MS}

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        self._undelivered |= error is not None

    # -- what is heard -------------------------------------------------------------------------------------------

    def standings(self) -> Sequence[Standing]:
        """See :class:`processors.placement.roster.Roster`."""
        return self._attendance.standings() if self._knows() else ()

    def lost(self, worker: str) -> bool:
        """See :class:`processors.placement.roster.Roster`."""
        return self._knows() and self._attendance.lost(worker)

    def wait(self, timeout: float) -> None:
        """See :class:`processors.placement.roster.Roster`."""
        if self._knows():
            self._attendance.wait(timeout)
        else:
            self._caught_up.wait(timeout)

    def close(self) -> None:
        """See :class:`processors.placement.roster.Announcer`."""
        with self._lock:
            self._closed.set()
            if self._producer is not None:
                self._producer.flush(_LEAVE_SECONDS)
        if self._reader is not None:
            self._reader.join()

    def _knows(self) -> bool:
        with self._lock:
            if self._reader is None and not self._closed.is_set():
                self._reader = threading.Thread(target=self._follow, name="roster", daemon=True)
                self._reader.start()
        return self._caught_up.is_set() and not self._closed.is_set()

    def _follow(self) -> None:
        consumer = Consumer(self._config.consumer("roster", reset="latest"))
        try:
            while not self._closed.is_set():
                if self._placed(consumer):
                    self._hear(consumer)
                else:
                    self._closed.wait(_AGAIN_SECONDS)
        finally:
            consumer.close()

    def _hear(self, consumer: Consumer) -> None:
        """Take what comes, as long as anything does: after an outage a reader may have stopped without a word."""
        patience = max(self._lease, _SILENT_SECONDS)
        silent_until = time.monotonic() + patience
        while not self._closed.is_set() and time.monotonic() < silent_until:
            message = consumer.poll(_POLL_SECONDS)
            if message is not None:
                self._take(message)
                if message.error() is None:
                    self._next = int(message.offset() or 0) + 1
                    silent_until = time.monotonic() + patience

    def _placed(self, consumer: Consumer) -> bool:
        """Put a reader where it was, at first a little before the end; whether the brokers could say where that is."""
        if self._next is not None:
            consumer.assign([TopicPartition(self._topic, 0, self._next)])
            return True
        since = round((self._clock() - self._lease - _BEFORE_SECONDS) * 1000)
        try:
            [place] = consumer.offsets_for_times([TopicPartition(self._topic, 0, since)], timeout=_ASK_SECONDS)
        except KafkaException:
            log.warning("roster_delayed")
            return False
        consumer.assign([TopicPartition(self._topic, 0, place.offset if place.offset >= 0 else OFFSET_END)])
        return True

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 -- librdkafka's own errors are called so
                self._caught_up.set()
            else:
                log.warning("roster_not_read", error=error.name())
            return
        worker, value = bytes(message.key() or b"").decode(errors="replace"), bytes(message.value() or b"")
        if value == _LEFT:
            self._attendance.left(worker)
            return
        try:
            standing = Standing.from_bytes(value)
        except StandingError:
            log.warning("standing_malformed")
            return
        if standing.worker == worker:
            self._attendance.heard(standing, message.timestamp()[1] / 1000)
