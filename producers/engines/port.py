"""The log engine port: a durable intake, one fenced writer, readers, replies, snapshots and published checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from producers.errors import RefusedError, RejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ACCEPTED, REJECTED, REFUSED = "accepted", "rejected", "refused"


@dataclass(frozen=True, slots=True)
class IntakeEntry:
    """One signed command waiting for its decision; ``data`` is the Avro encoding of a ``SignedCommand``."""

    position: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The decision on a command, addressable by its id.

    ``outcome`` is accepted, rejected (a ``CommandRejected`` is on the chain) or refused (malformed or not
    authenticated: nothing is on the chain). ``first_seq``/``last_seq`` span the records that it led to.
    ``body_digest`` is the SHA-256 of the command's body, so that a reused id with another body is noticed.
    """

    command_id: bytes
    outcome: str
    chain: str
    first_seq: int | None
    last_seq: int | None
    code: str
    detail: str
    body_digest: bytes

    def raise_for_outcome(self) -> None:
        """Return if the command was accepted.

        Raises:
            RejectedError: it was rejected; ``code`` and ``detail`` say why.
            RefusedError: it was malformed or not authenticated.
        """
        if self.outcome == REJECTED:
            raise RejectedError(self.code, self.detail)
        if self.outcome == REFUSED:
            raise RefusedError(self.code, self.detail)


@dataclass(frozen=True, slots=True)
class Append:
    """Records for the end of one chain; ``expected_size`` is the chain's size before them."""

    chain: str
    expected_size: int
    records: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An intake entry that could not be decided and was set aside: a dead letter, named by its position.

    ``reason`` is a stable code, never its content; ``at`` is when it was set aside, in microseconds since the epoch,
    0 where that is not known.
    """

    position: int
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What one micro-batch does, all of it or nothing."""

    epoch: int
    appends: Sequence[Append] = ()
    replies: Sequence[Reply] = ()
    intake_position: int | None = None
    quarantined: Sequence[Quarantined] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Folded state of a chain after its first ``size`` records; ``digest`` is the SHA-256 of ``data``."""

    chain: str
    size: int
    digest: bytes
    data: bytes = field(repr=False)


class LogReader(Protocol):
    """Reading what is committed. Safe from any thread and any process."""

    def chains(self) -> Sequence[str]:
        """The names of all chains, sorted."""

    def sizes(self) -> Mapping[str, int]:
        """The number of committed records of every chain."""

    def size(self, chain: str) -> int:
        """The number of committed records of a chain; 0 if there is no such chain."""

    def read(self, chain: str, start: int, limit: int) -> Sequence[bytes]:
        """Up to ``limit`` committed records of a chain from ``start`` on, in order."""

    def prefetch(self, starts: Mapping[str, int]) -> None:
        """Chains will be read soon, each from a record: of use where each question costs time, and no promise."""

    def reply(self, command_id: bytes, chain: str | None = None) -> Reply | None:
        """The decision on a command, if there is one yet; a chain tells equal ids on several chains apart.

        An engine may forget it after a while: the records do not.
        """

    def checkpoint(self, chain: str) -> bytes | None:
        """The latest published checkpoint (a signed note) of a chain."""

    def wait_checkpoint(self, chain: str, seen: bytes | None, timeout: float) -> bytes | None:
        """The published checkpoint of a chain once it is another one than ``seen``, or after seconds passed."""

    def wait(self, seen: Mapping[str, int], timeout: float) -> bool:
        """Block until some chain is larger than ``seen`` says (a chain not named counts as 0), or seconds passed.

        Woken by a notification, also across processes; returns whether anything is new.
        """


class LogEngine(LogReader, Protocol):
    """One ledger: every chain, the intake before them, and what is published about them."""

    def submit(self, commands: Sequence[bytes]) -> Sequence[int]:
        """Put signed commands into the durable intake; their positions.

        Raises:
            StorageFullError: nothing was taken; free space and send again.
        """

    def partition_of(self, chain: str) -> int:
        """The partition of the intake that a chain's commands go to, for good; 0 where there is one alone.

        A chain that is not open yet has one as well: no two writers may open it.
        """

    def intake(self, after: int, limit: int, *, complete: bool = True) -> Sequence[IntakeEntry]:
        """Entries behind a position, oldest first: all that were taken in before this call, up to the limit.

        Not ``complete``: those that are at hand. :meth:`wait_intake` tells when there are some.
        """

    def intake_position(self) -> int:
        """The position up to which everything is decided."""

    def waiting(self) -> int:
        """The number of entries in the intake that nobody has decided yet."""

    def wait_intake(self, after: int, timeout: float) -> bool:
        """Block until the intake has an entry behind a position, or seconds passed."""

    def epoch(self) -> int:
        """The newest epoch; 0 before the first writer."""

    def open_epoch(self, at_least: int = 1) -> int:
        """Take the writer's role: a new epoch, larger than every earlier one, which are fenced from now on.

        ``at_least``: it is no smaller than that, as it must be above epochs that were counted in another place.
        """

    def commit(self, commit: Commit) -> None:
        """Apply a micro-batch atomically and durably, then wake readers and waiting submitters.

        Raises:
            FencedError: a newer epoch is open.
            HeadMovedError: a chain is not as large as expected.
            StorageFullError: nothing was written.
        """

    def wait_reply(self, command_id: bytes, timeout: float, chain: str | None = None) -> Reply | None:
        """The decision on a command, waiting for it at most so many seconds.

        Raises:
            StorageFullError: the writer cannot record decisions now; the entry stays in the intake.
        """

    def wait_decided(self, position: int, timeout: float) -> bool:
        """Block until the entry at a position is decided or set aside, or seconds passed; whether it is."""

    def ring(self) -> None:
        """Wake everyone who waits for a decision or for records, to look again."""

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; only the newest of a chain is kept."""

    def load_snapshot(self, chain: str) -> Snapshot | None:
        """The newest snapshot of a chain, as stored: the caller checks its digest."""

    def publish_checkpoint(self, chain: str, note: bytes) -> None:
        """Publish the signer's newest checkpoint of a chain.

        Raises:
            StorageFullError: the one before it stands.
        """

    def quarantined(self) -> Sequence[Quarantined]:
        """The dead letters, oldest first: what could not be decided, and was neither retried nor dropped since."""

    def dead_letter(self, position: int) -> bytes | None:
        """The bytes of a dead letter as they were submitted; None if none has this position."""

    def retry(self, position: int) -> int:
        """Put the very bytes of a dead letter back into the intake, where they wait like any others, in one step.

        It is a dead letter no more then; if it still cannot be decided, it becomes one at its new position, which this
        returns. The refusal that its submitter was told stands until the decision takes its place.

        Raises:
            NoDeadLetterError: none has this position (any more).
            StorageFullError: it is a dead letter still.
        """

    def drop(self, position: int) -> None:
        """Remove a dead letter for good. What its submitter was told stands.

        Raises:
            NoDeadLetterError: none has this position (any more).
            StorageFullError: it is a dead letter still.
        """

    def close(self) -> None:
        """Give back files and handles."""
