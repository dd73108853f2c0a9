"""The log engine on Apache Kafka."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from producers.engines.kafka.beginning import Beginning
from producers.engines.kafka.ends import Ends
from producers.engines.kafka.errors import BrokerError
from producers.engines.kafka.follower import Follower
from producers.engines.kafka.framing import Framer
from producers.engines.kafka.intake import BUFFERED, Intake, Submissions, fetch, hashed_partition
from producers.engines.kafka.letters import DeadLetters
from producers.engines.kafka.places import offset_after, partition_of
from producers.engines.kafka.records import Records
from producers.engines.kafka.registry import SchemaRegistry
from producers.engines.kafka.snapshots import Notices
from producers.engines.kafka.state import State
from producers.engines.kafka.streams import Framing, Streams
from producers.engines.kafka.survey import Survey
from producers.engines.kafka.topics import REPLIES_MS, TopicMaker, Topics
from producers.engines.kafka.unmarked import Unmarked
from producers.engines.kafka.writer import Writer
from producers.engines.port import Commit, IntakeEntry, Quarantined, Reply, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from producers.engines.kafka.config import KafkaConfig

_PAGE = 512
_MARKING_SECONDS = 1.0


class KafkaEngine:
    """A handle on a ledger on Kafka; ``partition``: the intake partition that it can decide, 0 if there is one alone.

    Making one makes and checks the topics. What is asked (``sizes``, ``read``, ``reply`` …) holds everything that was
    committed before it was asked; what is waited for is told by the log itself.

    Raises:
        BrokerError: Kafka cannot be reached.
        TopicSettingsError: a topic is not as the ledger needs it.
    """

    def __init__(self, config: KafkaConfig, partition: int | None = None, framing: Framing | None = None) -> None:
        self._config = config
        self.partition = partition or 0
        if not 0 <= self.partition < config.partitions:
            raise ValueError(f"There is no intake partition {partition} of {config.partitions}.")
        self._topics = Topics(config)
        self._state = State(REPLIES_MS / 1000)
        self._maker = TopicMaker(config)
        self._maker.ensure(self._topics.fixed())
        framer = framing or Framer(SchemaRegistry(config.registry) if config.registry else None, self._written)
        self._ends = Ends(self._maker.admin, self._state)
        streams = Streams(config, self._topics, framer, lambda: self._state.closed)
        self._records, survey = Records(streams, self._ends), Survey(streams)
        unmarked = Unmarked(config, self._topics, framer)
        self._submissions = Submissions(config, self._topics.intake, self.partition_of)
        self._notices = Notices(config, self._topics, self._state)
        self._writer = Writer(
            config,
            self._topics,
            self.partition,
            state=self._state,
            maker=self._maker,
            beginning=Beginning(self._topics, self.partition, self._state, self._maker, self._ends, survey, unmarked),
            framer=framer,
            data_of=self._taken_in,
            newest=streams.newest,
        )
        self._letters = DeadLetters(config, self._topics, self._state, self._sync)
        self._opening = threading.Lock()
        self._heard = False
        self._following: Follower | None = None
        self._intake: Intake | None = None

    # Reading.

    def chains(self) -> Sequence[str]:
        """The names of all chains, sorted."""
        return sorted(self.sizes())

    def sizes(self) -> Mapping[str, int]:
        """The number of committed records of every chain."""
        self._sync()
        with self._state.changed:
            return dict(self._state.sizes)

    def size(self, chain: str) -> int:
        """The number of committed records of a chain; 0 if there is no such chain."""
        return self.sizes().get(chain, 0)

    def read(self, chain: str, start: int, limit: int) -> Sequence[bytes]:
        """Up to ``limit`` committed records of a chain from ``start`` on, in order."""
        size = self._known_size(chain)
        if start + limit > size:
            size = self.size(chain)
        with self._state.changed:
            head = self._state.heads.get(chain)
        if head is not None and head.seq:
            self._records.note(chain, head.seq, head.offset)
        return self._records.read(chain, start, min(start + limit, size), size)

    def prefetch(self, starts: Mapping[str, int]) -> None:
        """Have the records of chains brought together from where they will be read."""
        self._follower()
        self._records.prefetch(starts)

    def reply(self, command_id: bytes, chain: str | None = None) -> Reply | None:
        """The decision on a command, if there is one yet; a chain tells commands of one id on several chains apart.

        Old decisions, and all but the newest of very many, are forgotten here, not on the ledger.
        """
        if not self._writer.active:  # The writer itself knows everything that it has decided.
            self._sync()
        with self._state.changed:
            return self._state.reply(command_id, chain)

    def checkpoint(self, chain: str) -> bytes | None:
        """The latest published checkpoint (a signed note) of a chain."""
        self._sync()
        with self._state.changed:
            return self._state.checkpoints.get(chain)

    def wait(self, seen: Mapping[str, int], timeout: float) -> bool:
        """Block until some chain is larger than ``seen`` says (a chain not named counts as 0), or seconds passed."""
        self._follower()
        sizes = self._state.sizes
        return self._state.wait(lambda: any(size > seen.get(chain, 0) for chain, size in sizes.items()), timeout)

    def wait_checkpoint(self, chain: str, seen: bytes | None, timeout: float) -> bytes | None:
        """The published checkpoint of a chain once it is another one than ``seen``, or after seconds passed."""
        self._follower()
        checkpoints = self._state.checkpoints
        self._state.wait(lambda: checkpoints.get(chain) != seen, timeout)
        with self._state.changed:
            return checkpoints.get(chain)

    # The intake.

    def submit(self, commands: Sequence[bytes]) -> Sequence[int]:
        """Put signed commands into the intake of their chains' partitions; their positions there.

        Raises:
            BrokerError: some may have been taken: send them again, a command has effect once.
            MessageTooLargeError: one is over the limit of a message.
        """
        self._know()
        return self._submissions.submit(commands) if commands else []

    def partition_of(self, chain: str) -> int:
        """The partition of the intake that a chain's commands go to: where it is written, or where its name leads."""
        with self._state.changed:
            known = self._state.partitions.get(chain)
        return hashed_partition(chain, self._config.partitions) if known is None else known

    def intake(self, after: int, limit: int, *, complete: bool = True) -> Sequence[IntakeEntry]:
        """Entries of this handle's partition behind a position, oldest first; not ``complete``: those at hand."""
        return self._opened_intake().entries(after, limit, complete=complete)

    def intake_position(self) -> int:
        """The position up to which everything is decided."""
        if not self._writer.active:
            self._sync()
        with self._state.changed:
            return self._state.position(self.partition)

    def waiting(self) -> int:
        """The number of entries in the intake that nobody has decided yet; a large one may be too high by a few."""
        position = self.intake_position()
        places = [(self._topics.intake, partition) for partition in range(self._config.partitions)]
        ends = self._ends.written(places)
        with self._state.changed:
            decided = {place: offset_after(self._state.position(place[1])) for place in places}
        left = {place[1]: max(0, end - decided[place]) for place, end in ends.items()}
        # Offsets count the markers of retries as well: where entries are at hand they are counted themselves.
        if self._intake is not None and left[self.partition] < BUFFERED:
            left[self.partition] = len(self._intake.entries(position, BUFFERED))
        return sum(left.values())

    def wait_intake(self, after: int, timeout: float) -> bool:
        """Block until the intake has an entry behind a position, or seconds passed."""
        return self._opened_intake().wait(after, timeout)

    # Writing.

    def epoch(self) -> int:
        """The newest epoch of this handle's partition; 0 before the first writer."""
        self._sync()
        with self._state.changed:
            return self._state.epoch(self.partition)

    def open_epoch(self, at_least: int = 1) -> int:
        """Take the writer's role of this handle's partition; every earlier writer of it is fenced from now on.

        Raises:
            BrokerError: Kafka cannot be reached.
            TopicSettingsError: a chain's topic is not as the ledger needs it.
        """
        return self._writer.open(self._sync, at_least)

    def commit(self, commit: Commit) -> None:
        """Apply a micro-batch in one transaction, then wake readers and waiting submitters.

        Raises:
            FencedError: a newer epoch is open, or an earlier commit failed: take the role again.
            HeadMovedError: a chain is not as large as expected.
            WrongPartitionError: a chain belongs to another partition.
            CommitLostError: nothing was written.
            CommitUnknownError: it may be written: take the role again, and read back.
        """
        self._writer.commit(commit)

    def wait_reply(self, command_id: bytes, timeout: float, chain: str | None = None) -> Reply | None:
        """The decision on a command, waiting for it at most so many seconds."""
        self._follower()
        return self._state.wait_reply(command_id, chain, timeout)

    def wait_decided(self, position: int, timeout: float) -> bool:
        """Block until the entry at a position is decided or set aside, or seconds passed; whether it is."""
        self._follower()
        return self._state.wait(lambda: self._state.position(partition_of(position)) >= position, timeout)

    def ring(self) -> None:
        """Wake everyone of this handle who waits, to look again; what is on the log wakes others by itself."""
        with self._state.changed:
            self._state.wake()

    def quarantined(self) -> Sequence[Quarantined]:
        """The dead letters of all partitions, oldest first."""
        self._sync()
        with self._state.changed:
            return sorted((letter for letter, _ in self._state.dead_letters.values()), key=_age)

    def dead_letter(self, position: int) -> bytes | None:
        """The bytes of a dead letter as they were submitted; None if none has this position."""
        return self._letters.data(position)

    def retry(self, position: int) -> int:
        """Put the very bytes of a dead letter back into the intake, in one transaction; its new position.

        Raises:
            NoDeadLetterError: none has this position (any more).
            BrokerError: Kafka cannot be reached; it is a dead letter still.
        """
        return self._letters.remove(position, resubmit=True)

    def drop(self, position: int) -> None:
        """Remove a dead letter for good.

        Raises:
            NoDeadLetterError: none has this position (any more).
            BrokerError: Kafka cannot be reached; it is a dead letter still.
        """
        self._letters.remove(position, resubmit=False)

    # Beside the ledger.

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; only the newest of a chain is kept.

        Raises:
            BrokerError: Kafka cannot be reached, or has not marked the chain's last commit as committed.
        """
        place = (self._topics.ledger(snapshot.chain), 0)
        if not self._writer.active:  # Nobody else keeps any of its chains.
            self._sync()
        elif self._known_size(snapshot.chain) and not self._ends.settle(place, _MARKING_SECONDS):
            # It must not cover what readers may never read: brokers acknowledge commits before they mark them.
            raise BrokerError(f"Kafka has not marked the last commit to chain {snapshot.chain!r} as committed yet.")
        self._notices.save(snapshot)

    def load_snapshot(self, chain: str) -> Snapshot | None:
        """The newest snapshot of a chain, as stored: the caller checks its digest."""
        if not self._writer.active:  # A writer has heard of all there were when it took the role.
            self._sync()
        with self._state.changed:
            stored = self._state.snapshots.get(chain)
        return None if stored is None else self._notices.load(chain, stored)

    def publish_checkpoint(self, chain: str, note: bytes) -> None:
        """Publish the signer's newest checkpoint of a chain."""
        self._notices.publish(chain, note)

    def close(self) -> None:
        """Give back clients and threads, and wake whoever waits."""
        with self._opening, self._state.changed:
            self._state.closed = True
            self._state.wake()
        for part in (self._intake, self._following, self._records, self._submissions, self._notices, self._writer):
            if part is not None:
                part.close()

    def _know(self) -> None:
        """Have heard once of all chains: a command must not go where its chain would be if it were not open."""
        if not self._heard:
            self._sync()
            self._heard = True

    def _sync(self) -> None:
        self._follower().sync()

    def _follower(self) -> Follower:
        with self._opening:
            self._still_open()
            if self._following is None:
                self._following = Follower(self._config, self._topics, self._ends, self._state)
            return self._following

    def _opened_intake(self) -> Intake:
        with self._opening:
            opened = self._intake
        if opened is not None:
            return opened
        self._sync()
        with self._opening:
            if self._intake is None:
                self._still_open()
                self._intake = Intake(self._config, self._topics, self.partition, state=self._state, ends=self._ends)
            return self._intake

    def _still_open(self) -> None:
        if self._state.closed:
            raise BrokerError("The ledger is closed.")

    def _known_size(self, chain: str) -> int:
        with self._state.changed:
            return self._state.sizes.get(chain, 0)

    def _taken_in(self, position: int) -> bytes:
        held = None if self._intake is None else self._intake.data(position)
        return fetch(self._config, self._topics, position) if held is None else held

    def _written(self, chain: str) -> Iterator[bytes]:
        """All records of a chain, for a framer that lacks a schema."""
        size = self._known_size(chain)
        for start in range(0, size, _PAGE):
            yield from self.read(chain, start, min(_PAGE, size - start))


def _age(letter: Quarantined) -> tuple[int, int]:
    return letter.at, letter.position
