"""Rules of position: where a record may stand, which schemas it may use, which writer wrote it, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import RuleBrokenError
from tensorguard.ledger.schema import check_schema

if TYPE_CHECKING:
    from tensorguard.ledger.record import Record
    from tensorguard.ledger.trust import TrustRoot

OPENED, REGISTERED, EPOCH = "ChainOpened", "SchemaRegistered", "EpochOpened"
OWN_EVENTS = frozenset(name for name, _ in fmt.BOOTSTRAP.values())
MOVED, CONTINUED = "LedgerMoved", "LedgerContinued"
CHAIN_STREAM = "chain"


class Position:
    """Chain and number as expected, streams dense, time never backwards."""

    def __init__(self, chain: str) -> None:
        self._chain = chain
        self._next = 0
        self._recorded_at = 0
        self._streams: dict[str, int] = {}

    def check(self, record: Record) -> None:
        """Check a record's place and step on behind it.

        Raises:
            RuleBrokenError: wrong_position, wrong_stream_seq, clock_backwards.
        """
        meta = record.meta
        expected, self._next = self._next, meta.seq + 1
        version, self._streams[meta.stream] = self._streams.get(meta.stream, 0), meta.stream_seq + 1
        before, self._recorded_at = self._recorded_at, meta.recorded_at
        if meta.chain != self._chain or meta.seq != expected:
            raise RuleBrokenError("wrong_position", f"A record says that it is another one than record {expected}.")
        if meta.stream_seq != version:
            raise RuleBrokenError("wrong_stream_seq", f"A stream goes from {version - 1} to {meta.stream_seq}.")
        if meta.recorded_at < before:
            raise RuleBrokenError("clock_backwards", "A record is older than the one before it.")


class Opening:
    """The first record opens this chain, for this installation and its authority; no other one does."""

    def __init__(self, chain: str, root: TrustRoot) -> None:
        self._expected = {
            "format_version": fmt.FORMAT_VERSION,
            "chain": chain,
            "origin": root.chain_origin(chain),
            "authority_key": root.authority_key,
        }
        self._first = True

    def check(self, record: Record) -> None:
        """Check that ChainOpened stands where it must, and only there.

        Raises:
            RuleBrokenError: chain_not_opened, wrong_opening.
        """
        first, self._first = self._first, False
        if first != (record.event == OPENED):
            raise RuleBrokenError("chain_not_opened", "A chain starts with ChainOpened and has it only once.")
        for name, value in self._expected.items() if first else ():
            if record.body[name] != value:
                raise RuleBrokenError(
                    "wrong_opening", f"The chain was opened with another {name} than the trust root's."
                )


class Epochs:
    """Every writer opens its epoch before it writes, and none comes back after a later one."""

    def __init__(self) -> None:
        self._epoch = -1
        self._open = False

    def check(self, record: Record) -> None:
        """Check the writer's epoch.

        Raises:
            RuleBrokenError: wrong_epoch.
        """
        epoch, is_opening = record.meta.epoch, record.event == EPOCH
        if record.event == OPENED and self._epoch < 0 <= epoch:
            self._epoch = epoch
            return
        if is_opening:
            good = record.body["epoch"] == epoch and (epoch > self._epoch or (epoch == self._epoch and not self._open))
        else:
            good = self._open and epoch == self._epoch
        self._epoch, self._open = max(self._epoch, epoch), self._open or is_opening
        if not good:
            raise RuleBrokenError("wrong_epoch", f"Epoch {epoch} is used before it is opened, or after a later one.")


class Moves:
    """A chain that was moved to another ledger goes on there, and in no other."""

    def __init__(self) -> None:
        self._moved_to: str | None = None

    def check(self, record: Record) -> None:
        """Check what stands behind the end of a chain in one ledger.

        Raises:
            RuleBrokenError: wrong_move.
            MalformedRecordError: a move does not say where to.
        """
        moved_to, event = self._moved_to, record.event
        if event == CONTINUED:
            self._moved_to = None
            if moved_to is None or record.field("ledger", str) != moved_to:
                raise RuleBrokenError("wrong_move", "A chain goes on in a ledger that it was not moved to.")
        elif moved_to is not None and event not in OWN_EVENTS:
            raise RuleBrokenError("wrong_move", f"{event} stands behind the move of the chain to another ledger.")
        elif event == MOVED:
            self._moved_to = record.field("ledger", str)


class Schemas:
    """What a chain has registered so far, by digest."""

    def __init__(self) -> None:
        self.events: dict[bytes, str] = {}
        self.commands: dict[bytes, tuple[str, str]] = {}

    def check(self, record: Record) -> None:
        """Take in a registration.

        Raises:
            RuleBrokenError: bad_schema.
            MalformedRecordError: the text is outside the subset of Avro that is allowed.
        """
        if record.event != REGISTERED:
            return
        digest, kind, name, text = (record.body[key] for key in ("schema", "kind", "name", "text"))
        if fmt.schema_digest(text) != digest:
            raise RuleBrokenError("bad_schema", "A schema is registered under another digest than its text has.")
        if digest in self.events or digest in self.commands or (kind == "event" and name in OWN_EVENTS):
            raise RuleBrokenError("bad_schema", "A schema is registered twice, or is one of the fixed ones.")
        check_schema(kind, name, text)
        if kind == "event":
            self.events[digest] = text
        else:
            self.commands[digest] = (name, text)
