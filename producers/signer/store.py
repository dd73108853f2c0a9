"""The signer's memory: its keys, and for each chain the head it has promised to and the checkpoint it has signed.

A head is written here before it is signed, by compare-and-swap on the size promised before. So whatever is killed,
restored or started twice, this store never promises two heads of one size, and what it has not promised is not signed.
"""

from __future__ import annotations

import sqlite3
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tensorguard.ledger.checkpoint import SignerKeys
from tensorguard.ledger.merkle import HASH_BYTES, Frontier
from tensorguard.ledger.record import GENESIS_PREV_HASH

from producers.engines.sqlite_errors import typed_errors
from producers.signer.errors import ForkedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_WHAT = "signer's store"
_TABLES = """
CREATE TABLE IF NOT EXISTS keys (
    generation INTEGER PRIMARY KEY, ed25519_seed BLOB NOT NULL, mldsa44_seed BLOB NOT NULL,
    ed25519 BLOB NOT NULL, mldsa44 BLOB NOT NULL, since INTEGER NOT NULL, until INTEGER
);
CREATE TABLE IF NOT EXISTS heads (
    chain TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL, peaks BLOB NOT NULL, leaf BLOB NOT NULL,
    note BLOB, noted_size INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Head:
    """A chain as far as it was read back: its tree's frontier and its last leaf hash."""

    frontier: Frontier = field(default_factory=Frontier)
    leaf: bytes = GENESIS_PREV_HASH

    @property
    def size(self) -> int:
        """The number of records."""
        return self.frontier.size


@dataclass(frozen=True, slots=True)
class Seeds:
    """A pair of private keys (32-byte seeds)."""

    ed25519: bytes
    mldsa44: bytes


class SignerStore:
    """``signer.db``; every transaction is on the disk when its method returns."""

    def __init__(self, path: Path) -> None:
        with typed_errors(_WHAT):
            path.touch(mode=stat.S_IRUSR | stat.S_IWUSR, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with typed_errors(_WHAT), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            yield

    def head(self, chain: str) -> Head:
        """The head that was promised for a chain; an empty one if there is none."""
        row = self._db.execute("SELECT size, peaks, leaf FROM heads WHERE chain = ?", (chain,)).fetchone()
        return Head(Frontier(row[0], _split(row[1])), row[2]) if row else Head()

    def chains(self) -> list[str]:
        """Every chain with a promise."""
        return [row[0] for row in self._db.execute("SELECT chain FROM heads ORDER BY chain")]

    def promise(self, steps: Iterable[tuple[str, Head, Head]]) -> None:
        """Move chains from one head to the next, all or none, before anything is signed.

        Raises:
            ForkedError: another head was promised in between.
        """
        with self._transaction():
            for chain, before, after in steps:
                self._swap(chain, before, after)

    def _swap(self, chain: str, before: Head, after: Head) -> None:
        self._db.execute(
            "INSERT INTO heads VALUES (?, 0, ?, ?, ?, NULL, 0) ON CONFLICT (chain) DO NOTHING",
            (chain, Frontier().root(), b"", GENESIS_PREV_HASH),
        )
        swapped = self._db.execute(
            "UPDATE heads SET size = ?, root = ?, peaks = ?, leaf = ? WHERE chain = ? AND size = ? AND root = ?",
            (
                *(after.size, after.frontier.root(), b"".join(after.frontier.peaks), after.leaf),
                *(chain, before.size, before.frontier.root()),
            ),
        )
        if swapped.rowcount != 1:
            raise ForkedError(f"Another head of chain {chain!r} was promised by someone else.")

    def unsigned(self) -> list[tuple[str, int, bytes]]:
        """Chain, size and root of every promise that has no checkpoint yet."""
        query = "SELECT chain, size, root FROM heads WHERE noted_size != size ORDER BY chain"
        return [(chain, size, root) for chain, size, root in self._db.execute(query)]

    def promised(self) -> list[tuple[str, int, bytes]]:
        """Chain, size and root of every promise."""
        query = "SELECT chain, size, root FROM heads WHERE size > 0 ORDER BY chain"
        return [(chain, size, root) for chain, size, root in self._db.execute(query)]

    def keep_notes(self, notes: Sequence[tuple[str, int, bytes]]) -> None:
        """Keep signed checkpoints (chain, size, note): signatures are made once."""
        with self._transaction():
            self._db.executemany(
                "UPDATE heads SET noted_size = ?2, note = ?3 WHERE chain = ?1 AND size = ?2",
                notes,
            )

    def note(self, chain: str) -> bytes | None:
        """The newest signed checkpoint of a chain."""
        row = self._db.execute("SELECT note FROM heads WHERE chain = ?", (chain,)).fetchone()
        return row[0] if row else None

    def public_keys(self) -> list[SignerKeys]:
        """All public keys, in the order of their rotation."""
        rows = self._db.execute("SELECT ed25519, mldsa44, since, until FROM keys ORDER BY generation")
        return [SignerKeys(*row) for row in rows]

    def seeds(self) -> Seeds | None:
        """The private keys in use."""
        query = "SELECT ed25519_seed, mldsa44_seed FROM keys ORDER BY generation DESC LIMIT 1"
        row = self._db.execute(query).fetchone()
        return Seeds(*row) if row else None

    def add_keys(self, seeds: Seeds, public: SignerKeys) -> None:
        """Use new keys from ``public.since`` on and retire those before them."""
        with self._transaction():
            self._db.execute("UPDATE keys SET until = ? WHERE until IS NULL", (public.since,))
            self._db.execute(
                "INSERT INTO keys (ed25519_seed, mldsa44_seed, ed25519, mldsa44, since) VALUES (?, ?, ?, ?, ?)",
                (seeds.ed25519, seeds.mldsa44, public.ed25519, public.mldsa44, public.since),
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _split(peaks: bytes) -> tuple[bytes, ...]:
    return tuple(peaks[i : i + HASH_BYTES] for i in range(0, len(peaks), HASH_BYTES))
