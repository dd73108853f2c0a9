"""What a writer sees to before it writes: nothing of an earlier one lies half-done, and all of it is known."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.record import decode_record

from producers.engines.errors import LedgerDamagedError
from producers.engines.kafka.errors import TransactionLeftOpenError
from producers.engines.kafka.messages import Head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka import Producer

    from producers.engines.kafka.ends import Ends, Place
    from producers.engines.kafka.state import State
    from producers.engines.kafka.survey import Survey
    from producers.engines.kafka.topics import TopicMaker, Topics
    from producers.engines.kafka.unmarked import Framed, Unmarked

_log = structlog.get_logger("kafka")
_MARKERS = 2
"""Behind a head that is told lie at most two commits: the one that it begins with, and the one that told it."""
_TOGETHER = 128
"""So many chains are read at once: each is waited for until its topic ends."""
_ABORTED = b"aborted"
_MARKING_SECONDS = 3.0
_AGAIN_SECONDS = 0.05
_SHORT_SECONDS = 10.0


class Beginning:
    """Looks over the topics that the writers of one intake partition write to."""

    def __init__(
        self,
        topics: Topics,
        partition: int,
        state: State,
        maker: TopicMaker,
        ends: Ends,
        survey: Survey,
        unmarked: Unmarked,
    ) -> None:
        self._topics = topics
        self._partition = partition
        self._state = state
        self._maker = maker
        self._ends = ends
        self._survey = survey
        self._unmarked = unmarked

    def check_topics(self) -> None:
        """The topics of this partition's chains must be there, as they were made.

        Raises:
            LedgerDamagedError: one is gone.
            TopicSettingsError: one is not as it was made.
        """
        self._maker.check(self._topics.of_chain(chain) for chain in self._chains())

    def unheard(self) -> list[str]:
        """Chains of this partition that are told of nowhere, as their topics have it.

        A topic that begins with another thing than the opening of its chain is no chain's: whoever made it, it keeps
        nobody from beginning.

        Raises:
            BrokerError: Kafka does not bring their first records in time.
        """
        opened = {chain: opened_for(chain, [first]) for chain, first in self._firsts(self._untold()).items()}
        if strays := [self._topics.ledger(chain) for chain, partition in opened.items() if partition is None]:
            _log.warning("topics_passed_over", topics=strays)
        return [chain for chain, partition in opened.items() if partition == self._partition]

    def settle(self, producer: Producer, seconds: float, unheard: Sequence[str]) -> bool:
        """Leave nothing of an earlier writer between transactions; whether there was anything.

        Brokers that forget markers (as ``unmarked`` tells) leave a record behind whose transaction nobody ends, and the
        next one's commit, being the same producer's, takes it along. An abort does so as well.

        Raises:
            TransactionLeftOpenError: it is not of this partition's writers.
        """
        shared = (self._topics.dead_letters, self._partition)
        return self._settle(producer, seconds, [*self._own(), *self._places(unheard)], shared)

    def make_way(self, producer: Producer, seconds: float, chains: Sequence[str]) -> dict[Place, int]:
        """See that nothing lies in the topics of chains that are to be opened, but what was aborted; where they end.

        Raises:
            TransactionLeftOpenError: a transaction is open there that is not of this partition's writers.
            LedgerDamagedError: there are records already: another first one would stand beside them.
        """
        self._settle(producer, seconds, self._places(chains))
        for chain in self._firsts(chains):
            raise LedgerDamagedError(
                f"Topic {self._topics.ledger(chain)} holds messages, and of a chain {chain!r} nothing is known.",
                next_step="Keep the topic as evidence and compare it with an exported checkpoint. If nothing of it is "
                "the ledger's, delete it, see who may make such topics, then start the sequencer again.",
            )
        return self._ends.settled(self._places(chains))

    def ends(self, unheard: Sequence[str]) -> dict[Place, int]:
        """Where the partitions end that this partition's writers alone write to."""
        return self._ends.written([*self._own(), *self._places(unheard)])

    def standings(self, unheard: Sequence[str]) -> tuple[dict[str, Head], dict[str, Sequence[Framed]]]:
        """The heads that ``writers`` does not tell as chains' topics have them, and the records that those lack.

        A broker whose machine lost its power may have the records and not what was written beside them. A writer that
        believed the latter would write the same numbers a second time: so every chain is counted. What one lacks was
        committed, and lies in its topic as aborted: it is to be written again, as it is.

        Raises:
            LedgerDamagedError: records are gone, or what lies behind a chain's known end is not its next records.
            BrokerError: Kafka does not bring them in time.
        """
        told = dict.fromkeys(unheard, Head(0, 0, 0)) | self._told()
        chains = list(told)
        ends = self._ends_of(chains)
        counts: dict[str, int] = {}
        lacking: dict[str, Sequence[Framed]] = {}
        for at in range(0, len(chains), _TOGETHER):
            counted = self._counts({chain: told[chain] for chain in chains[at : at + _TOGETHER]}, ends)
            lacking |= self._lacking(told, counted)
            counts |= counted
        if longer := {chain: size for chain, size in counts.items() if size > told[chain].size}:
            _log.warning("records_unheard_of", chains=longer)
        if lacking:
            _log.warning("commit_never_marked", chains={chain: len(each) for chain, each in lacking.items()})
        found = {chain: self._head(told[chain], chain, counts[chain]) for chain in chains}
        return {chain: head for chain, head in found.items() if not self._known(chain, head, ends[chain])}, lacking

    def _head(self, told: Head, chain: str, size: int) -> Head:
        """Where a chain stands that holds so many records, with those that it is to hold again."""
        near = self._survey.newest(chain) or (0, 0)
        return Head(size, *near) if size > told.size else Head(told.size, *near, told.last)

    def _known(self, chain: str, head: Head, end: int) -> bool:
        """Whether ``writers`` tells of a chain's head, and of a place near it."""
        with self._state.changed:
            told = self._state.heads.get(chain)
        return told is not None and told.size == head.size and _explains(told, end)

    def _counts(self, told: Mapping[str, Head], ends: Mapping[str, int]) -> dict[str, int]:
        """How many records chains hold. Where none lies behind the place that is told of, all are counted."""
        counts = self._survey.counts(told, ends)
        wholly = [chain for chain, count in counts.items() if not count and told[chain].seq]
        return counts | self._survey.counts(dict.fromkeys(wholly, Head(0, 0, 0)), ends)

    def _lacking(self, told: Mapping[str, Head], counts: dict[str, int]) -> dict[str, Sequence[Framed]]:
        """What chains lack of the records that are told of; ``counts`` of them, which may grow once more.

        A topic is read up to where it ends with all that is not committed, and then counted again up to there: what is
        not counted then is not committed, whatever a broker said before of where the topic ends.
        """
        found: dict[str, Sequence[Framed]] = {}
        looked: dict[str, float] = {}
        while short := {each: told[each] for each in counts if each not in found and counts[each] < told[each].size}:
            behind = self._unmarked.behind({chain: self._behind(chain) for chain in short})
            counted = self._counts(short, {chain: each.end for chain, each in behind.items()})
            for chain, head in short.items():
                if counted[chain] != counts[chain]:
                    continue
                if records := behind[chain].records(counts[chain], head):
                    found[chain] = records
                else:
                    deadline = looked.setdefault(chain, time.monotonic() + _SHORT_SECONDS)
                    self._wait_or_stop(chain, counts[chain], head.size, deadline)
            counts |= counted
        return found

    def _behind(self, chain: str) -> int:
        """The offset behind the last committed record of a chain that was read."""
        newest = self._survey.newest(chain)
        return newest[1] + 1 if newest else 0

    def _wait_or_stop(self, chain: str, size: int, told: int, deadline: float) -> None:
        """A broker that has just come back may know of an earlier end than it will soon: it is asked again."""
        if time.monotonic() > deadline:
            raise LedgerDamagedError(
                f"Topic {self._topics.ledger(chain)} holds {size} of the {told} records of its chain."
            )
        self._state.pause(_AGAIN_SECONDS)

    def _firsts(self, chains: Sequence[str]) -> dict[str, bytes]:
        """The first messages of those chains' topics that have any."""
        found: dict[str, bytes] = {}
        written = [(chain, end) for chain, end in self._ends_of(chains).items() if end]
        for at in range(0, len(written), _TOGETHER):
            found |= self._survey.firsts(dict(written[at : at + _TOGETHER]))
        return found

    def _ends_of(self, chains: Sequence[str]) -> dict[str, int]:
        """The offsets up to which all is settled in chains' topics."""
        ends = self._ends.settled(self._places(chains))
        return {chain: ends[self._topics.ledger(chain), 0] for chain in chains}

    def _told(self) -> dict[str, Head]:
        """The heads of this partition's chains as they are told."""
        with self._state.changed:
            sizes, heads, lasts = self._state.sizes, self._state.heads, self._state.lasts
            own = {each: heads.get(each, Head(0, 0, 0)) for each in self._chains()}
            return {each: Head(sizes[each], head.seq, head.offset, lasts[each]) for each, head in own.items()}

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

    def _settle(self, producer: Producer, seconds: float, places: Sequence[Place], *shared: Place) -> bool:
        """``shared``: where others write as well, whose transactions end by themselves."""
        left = self._unsettled([*places, *shared])
        if not left:
            return False
        _log.warning("transaction_left_open", topics=[topic for topic, _ in left])
        producer.begin_transaction()
        for topic, partition in left:
            producer.produce(topic, *self._nothing(topic), partition=partition)
        producer.flush(seconds)
        producer.abort_transaction(seconds)
        self._await_markers([place for place in left if place not in shared])
        return True

    def _nothing(self, topic: str) -> tuple[bytes | None, bytes]:
        """A value and a key: compacted topics take no message without one.

        Nobody waits for the markers of topics that are shared: there it is what means nothing if it is committed after
        all, that a letter is gone that there cannot be.
        """
        return (None, b"0") if topic == self._topics.dead_letters else (b"", _ABORTED)

    def _await_markers(self, left: Sequence[Place]) -> None:
        """Brokers say that a transaction has ended before its markers stand in all its topics."""
        deadline = time.monotonic() + _MARKING_SECONDS
        while left and (left := self._unsettled(left)):
            if time.monotonic() > deadline:
                raise TransactionLeftOpenError(f"In topic {left[0][0]} a transaction is open that is no sequencer's.")
            self._state.pause(_AGAIN_SECONDS)

    def _unsettled(self, places: Sequence[Place]) -> list[Place]:
        """Those of them where a transaction is open."""
        written, settled = self._ends.written(places), self._ends.settled(places)
        return [place for place in places if settled[place] < written[place]]


def _explains(head: Head, end: int) -> bool:
    """Whether a chain's records, and the markers of their commits, may be all that its topic has behind a place."""
    return 0 < end - head.offset - (head.size - head.seq) <= _MARKERS


def opened_for(chain: str, records: Sequence[bytes]) -> int | None:
    """The partition that a chain's first record gives it to; None if it does not open this chain."""
    try:
        first = decode_record(records[0], {})
        opens = first.event == "ChainOpened" and first.meta.chain == chain
        return first.field("intake_partition", int) if opens else None
    except (LedgerError, IndexError):
        return None
