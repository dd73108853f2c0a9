"""The one writer of an intake partition: each commit is one Kafka transaction, and a newer writer fences it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer

from producers.engines.errors import EngineError, FencedError, HeadMovedError
from producers.engines.kafka import messages
from producers.engines.kafka.beginning import opened_for
from producers.engines.kafka.bounded import within
from producers.engines.kafka.errors import (
    CommitLostError,
    CommitUnknownError,
    WrongPartitionError,
    kafkas,
    reason_of,
    translated,
    typed_errors,
)
from producers.engines.kafka.lag import Lag
from producers.engines.kafka.messages import Decided, Head, WriterState
from producers.engines.kafka.places import partition_of
from producers.engines.kafka.receipts import Receipts
from producers.engines.port import Quarantined

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.engines.kafka.beginning import Beginning
    from producers.engines.kafka.config import KafkaConfig
    from producers.engines.kafka.ends import Place
    from producers.engines.kafka.state import State
    from producers.engines.kafka.streams import Framing
    from producers.engines.kafka.topics import TopicMaker, Topics
    from producers.engines.port import Append, Commit

_Letters = Sequence[tuple[Quarantined, bytes]]
_GRACE_SECONDS = 5.0
_FULL_SECONDS = 0.1


class Writer:
    """Opens epochs and commits; any thread may use it, one at a time writes."""

    def __init__(
        self,
        config: KafkaConfig,
        topics: Topics,
        partition: int,
        *,
        state: State,
        maker: TopicMaker,
        beginning: Beginning,
        framer: Framing,
        data_of: Callable[[int], bytes],
        newest: Callable[[str], tuple[int, int] | None],
    ) -> None:
        self._config = config
        self._topics = topics
        self._partition = partition
        self._state = state
        self._maker = maker
        self._beginning = beginning
        self._framer = framer
        self._data_of = data_of
        self._newest = newest
        self._seconds = config.transaction_seconds + _GRACE_SECONDS
        self._lock = threading.Lock()
        self._producer: Producer | None = None
        self._ends: dict[Place, int] = {}
        self._epoch = 0
        self._lag = Lag(config, topics.intake, partition)

    @property
    def active(self) -> bool:
        """Whether this handle holds the writer's role, as far as it knows."""
        return self._producer is not None

    def open(self, sync: Callable[[], None], at_least: int = 1) -> int:
        """Fence every earlier writer of the partition, read what it committed, and open an epoch.

        Raises:
            BrokerError: Kafka cannot be reached.
            FencedError: another writer came in between.
            CommitLostError: Kafka took the new epoch for an earlier writer's.
            EngineError: the schema registry does not answer, or refuses a schema: nobody is fenced.
            TransactionLeftOpenError: somebody else's transaction is open in a topic of the partition.
            LedgerDamagedError: records of a chain are gone, or its topic goes on with what are not its next ones.
        """
        with self._lock, typed_errors("taking the writer's role"):
            self._drop()
            self._framer.prepare()
            producer = Producer(self._config.transactional(f"sequencer.{self._partition}"))
            producer.init_transactions(self._seconds)
            sync()
            self._beginning.check_topics()
            unheard = self._beginning.unheard()
            if self._beginning.settle(producer, self._seconds, unheard):
                sync()
            (heads, lacking), opened = self._beginning.standings(unheard), self._next(at_least)
            self._ends = self._beginning.ends(unheard)
            receipts = Receipts(self._ends)
            producer.begin_transaction()
            for chain, records in lacking.items():
                for each in records:
                    self._produce(producer, self._topics.ledger(chain), each.key, each.value, receipts, partition=0)
            self._produce_heads(producer, heads, receipts)
            self._produce(producer, self._topics.writers, *_writer_message(opened), receipts)
            self._finish(producer, receipts)
            self._producer, self._epoch = producer, opened.epoch
            with self._state.changed:
                for chain, head in heads.items():
                    self._state.head(self._partition, chain, head)
                self._state.writer(self._partition, opened)
                self._state.changed.notify_all()
            return opened.epoch

    def commit(self, commit: Commit) -> None:
        """Write a micro-batch in one transaction.

        Raises:
            FencedError: a newer epoch is open.
            HeadMovedError: a chain is not as large as expected.
            WrongPartitionError: a chain belongs to another partition.
            CommitLostError: the transaction was aborted.
            CommitUnknownError: Kafka did not say in time whether it is committed.
            TransactionLeftOpenError: somebody else's transaction is open in the topic of a new chain.
            LedgerDamagedError: the topic of a new chain holds records.
        """
        with self._lock:
            producer = self._checked(commit)
            new = [append.chain for append in commit.appends if append.chain not in self._state.sizes]
            if new:
                self._maker.ensure(self._topics.of_chain(chain) for chain in new)
            letters = [(letter, self._data_of(letter.position)) for letter in commit.quarantined]
            try:
                with typed_errors("beginning a transaction"):
                    if new:  # An earlier writer may have failed at these very chains.
                        self._ends |= self._beginning.make_way(producer, self._seconds, new)
                    heads = self._write(producer, commit, letters)
            except BaseException:
                self._drop()
                raise
            self._apply(commit, letters, heads)
            if commit.intake_position is not None:
                self._lag.tell(commit.intake_position)

    def close(self) -> None:
        """Give the role and the clients back."""
        with self._lock:
            self._drop()
            self._lag.close()

    def _next(self, at_least: int) -> WriterState:
        with self._state.changed:
            position = self._state.position(self._partition)
            return WriterState(max(at_least, self._state.epoch(self._partition) + 1), position)

    def _checked(self, commit: Commit) -> Producer:
        with self._state.changed:
            newest = self._state.epoch(self._partition)
            if self._producer is None or commit.epoch != self._epoch or newest > self._epoch:
                raise FencedError(f"The writer of epoch {commit.epoch} is fenced, or has lost its role.")
            if commit.intake_position is not None and partition_of(commit.intake_position) != self._partition:
                raise WrongPartitionError("A position of another intake partition is not this writer's to decide.")
            for append in commit.appends:
                self._check(append)
            return self._producer

    def _check(self, append: Append) -> None:
        size = self._state.sizes.get(append.chain, 0)
        if size != append.expected_size:
            raise HeadMovedError(f"Chain {append.chain!r} has {size} records, not {append.expected_size}.")
        partition = self._state.partitions.get(append.chain) if size else opened_for(append.chain, append.records)
        if partition not in (None, self._partition):
            raise WrongPartitionError(f"Chain {append.chain!r} belongs to intake partition {partition}.")

    def _write(self, producer: Producer, commit: Commit, letters: _Letters) -> dict[str, Head]:
        """One transaction; the heads that it left, with where the first of each chain's new records lies."""
        receipts = Receipts(self._ends)
        producer.begin_transaction()
        try:
            self._produce_all(producer, commit, letters, receipts)
            self._finish(producer, receipts)
        except (KafkaException, SystemError) as error:
            raise self._ended(producer, kafkas(error)) from error
        except BaseException:
            self._abort(producer)
            raise
        return {a.chain: self._head(a, receipts.offset((self._topics.ledger(a.chain), 0))) for a in commit.appends}

    def _finish(self, producer: Producer, receipts: Receipts) -> None:
        """Commit what was acknowledged, if it was also written."""
        producer.flush(self._seconds)
        receipts.check()
        producer.commit_transaction(self._seconds)

    def _produce_all(self, producer: Producer, commit: Commit, letters: _Letters, receipts: Receipts) -> None:
        for append in commit.appends:
            self._produce_records(producer, append, receipts)
        self._produce_heads(producer, {append.chain: self._head(append, None) for append in commit.appends}, receipts)
        for letter, data in letters:
            key, value = str(letter.position).encode(), messages.encode_dead_letter(letter, data)
            self._produce(producer, self._topics.dead_letters, key, value, receipts)
        for data in messages.encode_commit(commit):
            self._produce(producer, self._topics.replies, None, data, receipts)
        if commit.intake_position is not None:
            at = WriterState(commit.epoch, commit.intake_position)
            self._produce(producer, self._topics.writers, *_writer_message(at), receipts)

    def _produce_heads(self, producer: Producer, heads: Mapping[str, Head], receipts: Receipts) -> None:
        for chain, head in heads.items():
            key, value = messages.chain_key(chain), messages.encode_head(head)
            self._produce(producer, self._topics.writers, key, value, receipts)

    def _produce_records(self, producer: Producer, append: Append, receipts: Receipts) -> None:
        topic = self._topics.ledger(append.chain)
        for seq, record in enumerate(append.records, append.expected_size):
            self._produce(producer, topic, str(seq).encode(), self._framer.frame(record), receipts, partition=0)

    def _produce(
        self,
        producer: Producer,
        topic: str,
        key: bytes | None,
        value: bytes,
        receipts: Receipts,
        *,
        partition: int | None = None,
    ) -> None:
        place = self._partition if partition is None else partition
        told = receipts.of((topic, place))
        while True:
            try:
                if told is None:
                    producer.produce(topic, value, key, partition=place)
                else:
                    producer.produce(topic, value, key, partition=place, on_delivery=told)
            except BufferError:
                producer.poll(_FULL_SECONDS)
            else:
                return

    def _ended(self, producer: Producer, error: KafkaException) -> EngineError:
        """Why a transaction did not come to its end; it is aborted where that can be done."""
        reason = reason_of(error)
        if reason.txn_requires_abort():
            self._abort(producer)
            return CommitLostError(f"Kafka aborted a transaction ({reason.name()}).")
        found = translated(error, "a commit")
        if isinstance(found, FencedError):
            return found
        return CommitUnknownError(f"Kafka did not say whether a transaction is committed ({reason.name()}).")

    def _abort(self, producer: Producer) -> None:
        try:
            within(_GRACE_SECONDS, lambda: producer.abort_transaction(_GRACE_SECONDS))
        except (KafkaException, CommitLostError):
            # The broker aborts it when its time is over, or when the next writer begins.
            return

    def _head(self, append: Append, offset: int | None) -> Head:
        """What is known of a chain's end: of the records that are on their way, only that they come later."""
        tip = messages.tip_of(append)
        if offset is not None:
            return Head(tip.size, append.expected_size, offset, tip.last)
        told, read = self._state.heads.get(append.chain, Head(0, 0, 0)), self._newest(append.chain)
        return Head(tip.size, *max((told.seq, told.offset), read or (0, 0)), tip.last)

    def _apply(self, commit: Commit, letters: _Letters, heads: dict[str, Head]) -> None:
        """Know at once what the topics will tell, so that this handle reads what it wrote."""
        with self._state.changed:
            for chain, head in heads.items():
                self._state.head(self._partition, chain, head)
            grown = {append.chain: messages.tip_of(append) for append in commit.appends}
            told = Decided(commit.epoch, commit.intake_position, grown, tuple(commit.replies))
            self._state.decided(self._partition, told)
            if commit.intake_position is not None:
                self._state.wrote(self._partition, WriterState(commit.epoch, commit.intake_position))
            for letter, data in letters:
                self._state.set_aside(letter, data)
            self._state.changed.notify_all()

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()


def _writer_message(state: WriterState) -> tuple[bytes, bytes]:
    return messages.WRITER_KEY, messages.encode_writer(state)
