"""The embedded log engine: one SQLite file, any number of processes on one machine.

A submitter's entry is written without waiting for the disk; it is told the decision only after the commit that made
it, and that commit syncs the same write-ahead log, entry included. So one sync serves the intake and the ledger, and
what was answered is never lost. What was only taken in may be lost by a power failure (not by a crash): its submitter
has no answer yet and sends it again.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from tensorguard.ledger.export import is_chain_name

from producers.engines.bells import Bells
from producers.engines.errors import EngineError, FencedError, HeadMovedError, NoDeadLetterError, StorageFullError
from producers.engines.group import GroupCommit
from producers.engines.port import Append, Commit, IntakeEntry, Quarantined, Reply, Snapshot
from producers.engines.sqlite_errors import typed_errors
from producers.engines.sqlite_store import SqliteStore
from producers.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from sqlite3 import Connection

_INTAKE, _LOG, _CHECKPOINTS = "intake", "log", "checkpoints"

_FIND_REPLY = """
SELECT command_id, outcome, chain, first_seq, last_seq, code, detail, body_digest FROM replies
WHERE command_id = ?1 AND (?2 IS NULL OR chain = ?2) ORDER BY outcome = 'refused' LIMIT 1
"""
# A refusal names an id that nobody proved to own: it never takes the place of a decision, and gives way to one.
_KEEP_REPLY = """
INSERT INTO replies (command_id, outcome, chain, first_seq, last_seq, code, detail, body_digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (command_id, chain) DO UPDATE SET
    outcome = excluded.outcome, first_seq = excluded.first_seq, last_seq = excluded.last_seq,
    code = excluded.code, detail = excluded.detail, body_digest = excluded.body_digest
WHERE replies.outcome = 'refused'
"""
_REPLY_ROW = attrgetter("command_id", "outcome", "chain", "first_seq", "last_seq", "code", "detail", "body_digest")
_KEEP_POISON = """
INSERT INTO quarantine (position, reason, at, data) VALUES (?1, ?2, ?3, (SELECT data FROM intake WHERE position = ?1))
"""


class SqliteEngine:
    """The log engine on ``ledger.db``; bells and published checkpoints lie beside it.

    ``nap``: how many seconds waiters may learn later of what other processes do, see :class:`Bells`.
    """

    def __init__(self, path: Path, nap: float = 0.0) -> None:
        self._store = SqliteStore(path)
        self._checkpoints = path.parent / "checkpoints"
        self._bells = Bells(path.parent / "bells", nap)
        self._submissions: GroupCommit[bytes, int] = GroupCommit(self._insert_intake)
        self._stalled: EngineError | None = None

    # Reading.

    def chains(self) -> Sequence[str]:
        """The names of all chains, sorted."""
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        """The number of committed records of every chain."""
        return self._store.sizes()

    def size(self, chain: str) -> int:
        """The number of committed records of a chain; 0 if there is no such chain."""
        with self._store.reading() as db:
            row = db.execute("SELECT size FROM chains WHERE name = ?", (chain,)).fetchone()
        return int(row[0]) if row else 0

    def read(self, chain: str, start: int, limit: int) -> Sequence[bytes]:
        """Up to ``limit`` committed records of a chain from ``start`` on, in order."""
        query = (
            "SELECT data FROM records WHERE chain = (SELECT id FROM chains WHERE name = ?) "
            "AND seq >= ? AND seq < ? ORDER BY seq"
        )
        with self._store.reading() as db:
            return [row[0] for row in db.execute(query, (chain, start, start + limit))]

    def prefetch(self, _: Mapping[str, int]) -> None:
        """Nothing: what is read is at hand."""

    def reply(self, command_id: bytes, chain: str | None = None) -> Reply | None:
        """The decision on a command, if there is one yet; a chain tells commands of one id on several chains apart."""
        with self._store.reading() as db:
            row = db.execute(_FIND_REPLY, (command_id, chain)).fetchone()
        return Reply(*row) if row else None

    def checkpoint(self, chain: str) -> bytes | None:
        """The latest published checkpoint (a signed note) of a chain."""
        if not is_chain_name(chain):  # Chain names come from outside, and this one becomes a path.
            return None
        try:
            return (self._checkpoints / chain).read_bytes()
        except FileNotFoundError:
            return None

    def wait(self, seen: Mapping[str, int], timeout: float) -> bool:
        """Block until some chain is larger than ``seen`` says (a chain not named counts as 0), or seconds passed."""

        def larger() -> bool:
            return any(size > seen.get(chain, 0) for chain, size in self.sizes().items())

        return self._bells.wait(_LOG, larger, timeout)

    def wait_checkpoint(self, chain: str, seen: bytes | None, timeout: float) -> bytes | None:
        """The published checkpoint of a chain once it is another one than ``seen``, or after seconds passed."""
        self._bells.wait(_CHECKPOINTS, lambda: self.checkpoint(chain) != seen, timeout)
        return self.checkpoint(chain)

    # The intake.

    def submit(self, commands: Sequence[bytes]) -> Sequence[int]:
        """Put signed commands into the durable intake; their positions. Concurrent calls share one transaction.

        Raises:
            StorageFullError: nothing was taken; free space and send again.
        """
        return self._submissions.submit(commands) if commands else []

    def _insert_intake(self, commands: Sequence[bytes]) -> list[int]:
        with self._store.relaxed() as db:
            cursors = (db.execute("INSERT INTO intake (data) VALUES (?)", (data,)) for data in commands)
            positions = [int(cursor.lastrowid or 0) for cursor in cursors]
        self._bells.ring(_INTAKE)
        return positions

    def partition_of(self, _: str) -> int:
        """The partition of the intake that a chain's commands go to: there is one alone."""
        return 0

    def intake(self, after: int, limit: int, *, complete: bool = True) -> Sequence[IntakeEntry]:  # noqa: ARG002 -- it always is
        """Entries behind a position, oldest first."""
        query = "SELECT position, data FROM intake WHERE position > ? ORDER BY position LIMIT ?"
        with self._store.reading() as db:
            return [IntakeEntry(*row) for row in db.execute(query, (after, limit))]

    def intake_position(self) -> int:
        """The position up to which everything is decided."""
        with self._store.reading() as db:
            return int(db.execute("SELECT intake_position FROM writer").fetchone()[0])

    def waiting(self) -> int:
        """The number of entries in the intake that nobody has decided yet."""
        with self._store.reading() as db:
            return int(db.execute("SELECT COUNT(*) FROM intake").fetchone()[0])

    def wait_intake(self, after: int, timeout: float) -> bool:
        """Block until the intake has an entry behind a position, or seconds passed."""
        return self._bells.wait(_INTAKE, lambda: bool(self.intake(after, 1)), timeout)

    # Writing.

    def epoch(self) -> int:
        """The newest epoch; 0 before the first writer."""
        with self._store.reading() as db:
            return int(db.execute("SELECT epoch FROM writer").fetchone()[0])

    def open_epoch(self, at_least: int = 1) -> int:
        """Take the writer's role: a new epoch, larger than every earlier one, which are fenced from now on."""
        with self._store.durable() as db:
            return int(
                db.execute("UPDATE writer SET epoch = MAX(epoch + 1, ?) RETURNING epoch", (at_least,)).fetchone()[0]
            )

    def commit(self, commit: Commit) -> None:
        """Apply a micro-batch atomically and durably, then wake readers and waiting submitters.

        Raises:
            FencedError: a newer epoch is open.
            HeadMovedError: a chain is not as large as expected.
            StorageFullError: nothing was written.
        """
        try:
            with self._store.durable() as db:
                _check_epoch(db, commit.epoch)
                for append in commit.appends:
                    _append(db, append)
                _decide(db, commit)
        except StorageFullError as error:
            self._stalled = error
            self._bells.ring(_LOG)
            raise
        self._stalled = None
        self._bells.ring(_LOG)

    def wait_reply(self, command_id: bytes, timeout: float, chain: str | None = None) -> Reply | None:
        """The decision on a command, waiting for it at most so many seconds.

        Raises:
            StorageFullError: this process's writer cannot commit; the entry stays in the intake.
        """
        found: list[Reply] = []

        def answered() -> bool:
            reply = self.reply(command_id, chain)
            if reply is not None:
                found.append(reply)
            return reply is not None or self._stalled is not None

        self._bells.wait(_LOG, answered, timeout)
        if not found and self._stalled is not None:
            raise StorageFullError("The command waits in the intake: there is no space to record its decision.")
        return found[0] if found else None

    def wait_decided(self, position: int, timeout: float) -> bool:
        """Block until the entry at a position is decided or set aside, or seconds passed; whether it is."""
        return self._bells.wait(_LOG, lambda: self.intake_position() >= position, timeout)

    def quarantined(self) -> Sequence[Quarantined]:
        """The dead letters, oldest first: what could not be decided, and was neither retried nor dropped since."""
        with self._store.reading() as db:
            rows = db.execute("SELECT position, reason, at FROM quarantine ORDER BY position").fetchall()
        return [Quarantined(*row) for row in rows]

    def dead_letter(self, position: int) -> bytes | None:
        """The bytes of a dead letter as they were submitted; None if none has this position."""
        with self._store.reading() as db:
            row = db.execute("SELECT data FROM quarantine WHERE position = ?", (position,)).fetchone()
        return bytes(row[0]) if row else None

    def retry(self, position: int) -> int:
        """Put the very bytes of a dead letter back into the intake, in one step; its new position there.

        Raises:
            NoDeadLetterError: none has this position (any more).
            StorageFullError: it is a dead letter still.
        """
        with self._store.durable() as db:
            data = _take_dead_letter(db, position)
            again = int(db.execute("INSERT INTO intake (data) VALUES (?)", (data,)).lastrowid or 0)
        self._bells.ring(_INTAKE)
        return again

    def drop(self, position: int) -> None:
        """Remove a dead letter for good.

        Raises:
            NoDeadLetterError: none has this position (any more).
            StorageFullError: it is a dead letter still.
        """
        with self._store.durable() as db:
            _take_dead_letter(db, position)

    # Beside the ledger.

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; only the newest of a chain is kept."""
        row = (snapshot.chain, snapshot.size, snapshot.digest, snapshot.data)
        with self._store.relaxed() as db:
            db.execute("INSERT OR REPLACE INTO snapshots (chain, size, digest, data) VALUES (?, ?, ?, ?)", row)

    def load_snapshot(self, chain: str) -> Snapshot | None:
        """The newest snapshot of a chain, as stored: the caller checks its digest."""
        with self._store.reading() as db:
            row = db.execute("SELECT chain, size, digest, data FROM snapshots WHERE chain = ?", (chain,)).fetchone()
        return Snapshot(*row) if row else None

    def publish_checkpoint(self, chain: str, note: bytes) -> None:
        """Publish the signer's newest checkpoint of a chain.

        Raises:
            StorageFullError: the one before it stands.
        """
        with typed_errors("checkpoint"):
            replace_file(self._checkpoints / chain, note)
        self._bells.ring(_CHECKPOINTS)

    def ring(self) -> None:
        """Wake whoever waits for a decision, to look at who writes now."""
        self._bells.ring(_LOG)

    def close(self) -> None:
        """Give back files and handles."""
        self._bells.close()
        self._store.close()


def _check_epoch(db: Connection, epoch: int) -> None:
    newest = db.execute("SELECT epoch FROM writer").fetchone()[0]
    if newest != epoch:
        raise FencedError(f"The writer of epoch {epoch} is fenced by epoch {newest}.")


def _append(db: Connection, append: Append) -> None:
    db.execute("INSERT INTO chains (name, size) VALUES (?, 0) ON CONFLICT (name) DO NOTHING", (append.chain,))
    chain, size = db.execute("SELECT id, size FROM chains WHERE name = ?", (append.chain,)).fetchone()
    if size != append.expected_size:
        raise HeadMovedError(f"Chain {append.chain!r} has {size} records, not {append.expected_size}.")
    rows = ((chain, size + i, data) for i, data in enumerate(append.records))
    db.executemany("INSERT INTO records (chain, seq, data) VALUES (?, ?, ?)", rows)
    db.execute("UPDATE chains SET size = ? WHERE id = ?", (size + len(append.records), chain))


def _decide(db: Connection, commit: Commit) -> None:
    db.executemany(_KEEP_REPLY, map(_REPLY_ROW, commit.replies))
    db.executemany(_KEEP_POISON, [(entry.position, entry.reason, entry.at) for entry in commit.quarantined])
    if commit.intake_position is not None:
        db.execute("DELETE FROM intake WHERE position <= ?", (commit.intake_position,))
        db.execute("UPDATE writer SET intake_position = ?", (commit.intake_position,))


def _take_dead_letter(db: Connection, position: int) -> bytes:
    row = db.execute("DELETE FROM quarantine WHERE position = ? RETURNING data", (position,)).fetchone()
    if row is None:
        raise NoDeadLetterError(f"No dead letter has the position {position}.")
    return bytes(row[0])
