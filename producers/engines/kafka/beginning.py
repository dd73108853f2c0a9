"""What a writer sees to before it writes: nothing of an earlier one lies half-done, and all of it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.record import decode_record

from producers.engines.errors import LedgerDamagedError
from producers.engines.kafka.errors import TransactionLeftOpenError
from producers.engines.kafka.intake import hashed_partition
from producers.engines.kafka.messages import Head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Producer

    from producers.engines.kafka.ends import Ends, Place
    from producers.engines.kafka.records import Records
    from producers.engines.kafka.state import State
    from producers.engines.kafka.topics import TopicMaker, Topics

_log = structlog.get_logger("kafka")
_MARKERS = 2
"""Behind a head that is told lie at most two commits: the one that it begins with, and the one that told it."""
_TOGETHER = 128
"""So many chains are read at once: each is waited for until its topic ends."""


class Beginning:
    """Looks over the topics that the writers of one intake partition write to."""

    def __init__(
        self,
        topics: Topics,
        partition: int,
        state: State,
        maker: TopicMaker,
        ends: Ends,
        records: Records,
    ) -> None:
        self._partitions = topics.partitions
        self._topics = topics
        self._partition = partition
        self._state = state
        self._maker = maker
        self._ends = ends
        self._records = records

    def check_topics(self) -> None:
        """The topics of this partition's chains must be as they were made."""
        self._maker.ensure(self._topics.of_chain(chain) for chain in self._chains())

    def settle(self, producer: Producer, seconds: float, chains: Sequence[str] | None = None) -> bool:
        """Leave nothing of an earlier writer between transactions, in all or those chains; whether there was anything.

        Seen after a broker was killed again and again: a record stayed behind whose transaction nobody had ended, and
        the next one's commit, being the same producer's, took it along. An abort does so as well.

        Raises:
            TransactionLeftOpenError: it is not of this partition's writers.
        """
        places = self._own() if chains is None else self._places(chains)
        left = self._unsettled(places)
        if not left:
            return False
        _log.warning("transaction_left_open", topics=[topic for topic, _ in left])
        producer.begin_transaction()
        for topic, partition in left:
            producer.produce(topic, b"", partition=partition)
        producer.flush(seconds)
        producer.abort_transaction(seconds)
        if left := self._unsettled(places):
            raise TransactionLeftOpenError(f"In topic {left[0][0]} a transaction is open that is no sequencer's.")
        return True

    def heads(self) -> dict[str, Head]:
        """The heads of those chains of this partition whose topics are longer than ``writers`` and ``replies`` explain.

        A broker whose machine lost its power may have the records and not what was written beside them. A writer that
        believed the latter would write the same numbers a second time. Most often it is markers alone.

        Raises:
            LedgerDamagedError: what lies behind a chain's known end is not its next records.
            BrokerError: Kafka does not bring them in time.
        """
        told = self._told()
        untold = dict.fromkeys(self._untold(), Head(0, 0, 0))
        ends = self._ends.settled(self._places([*told, *untold]))
        longer = [chain for chain, head in told.items() if _may_go_on(head, ends[self._topics.ledger(chain), 0])]
        found: dict[str, Head] = {}
        for at in range(0, len(longer), _TOGETHER):
            found |= self._counted({chain: told[chain] for chain in longer[at : at + _TOGETHER]})
        for chain in untold:
            if ends[self._topics.ledger(chain), 0]:
                found |= self._opened_unheard(chain)
        sizes = {chain: head.size for chain, head in found.items() if head.size > told.get(chain, Head(0, 0, 0)).size}
        if sizes:
            _log.warning("records_unheard_of", chains=sizes)
        return found

    def _counted(self, told: Mapping[str, Head]) -> dict[str, Head]:
        """The true heads; none of a chain that lacks records, which is noticed when it is read."""
        counts = self._records.counts(told)
        true = {chain: Head(size, *(self._records.newest(chain) or (0, 0))) for chain, size in counts.items()}
        return {chain: head for chain, head in true.items() if head.size >= told[chain].size}

    def _opened_unheard(self, chain: str) -> dict[str, Head]:
        """The head of a chain of this partition that is told of nowhere, if its topic has one."""
        try:
            [head] = self._counted({chain: Head(0, 0, 0)}).values()
            first = self._records.read(chain, 0, 1, head.size) if head.size else []
        except LedgerDamagedError:  # Whoever made it, no chain of ours has anything to do with it.
            _log.warning("topic_passed_over", topic=self._topics.ledger(chain))
            return {}
        opened = opened_for(first)
        here = hashed_partition(chain, self._partitions) if opened is None else opened
        return {chain: head} if first and here == self._partition else {}

    def _told(self) -> dict[str, Head]:
        """The heads of this partition's chains as they are told."""
        with self._state.changed:
            sizes, heads = self._state.sizes, self._state.heads
            own = {each: heads.get(each, Head(0, 0, 0)) for each in self._chains()}
            return {each: Head(sizes[each], head.seq, head.offset) for each, head in own.items()}

    def _chains(self) -> list[str]:
        with self._state.changed:
            return [chain for chain, partition in self._state.partitions.items() if partition == self._partition]

    def _untold(self) -> list[str]:
        """Chains that have a topic and of which nothing is told: most often an opening that came to nothing."""
        chains = [self._topics.chain_of(name) for name in self._maker.names()]
        with self._state.changed:
            return [chain for chain in chains if chain is not None and chain not in self._state.sizes]

    def _own(self) -> list[Place]:
        """Where this partition's writers alone write to."""
        beside = [(topic, self._partition) for topic in (self._topics.replies, self._topics.writers)]
        return [*beside, *self._places(self._chains())]

    def _places(self, chains: Sequence[str]) -> list[Place]:
        return [(self._topics.ledger(chain), 0) for chain in chains]

    def _unsettled(self, places: Sequence[Place]) -> list[Place]:
        """Those of them where a transaction is open."""
        written, settled = self._ends.written(places), self._ends.settled(places)
        return [place for place in places if settled[place] < written[place]]


def _may_go_on(head: Head, end: int) -> bool:
    """Whether a topic is longer than a chain's known records and the markers of their commits make it."""
    return end - head.offset > head.size - head.seq + _MARKERS


def opened_for(records: Sequence[bytes]) -> int | None:
    """The partition that a chain's first record gives it to; None if it does not say."""
    try:
        first = decode_record(records[0], {})
        return first.field("intake_partition", int) if first.event == "ChainOpened" else None
    except (LedgerError, IndexError):
        return None
