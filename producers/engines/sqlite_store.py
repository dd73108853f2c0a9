"""The SQLite file below the embedded engine: its tables, connections, transactions and errors."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from producers.engines.errors import UnknownFormatError
from producers.engines.sqlite_errors import typed_errors
from producers.engines.sqlite_sizes import ChainSizes, read_sizes
from producers.locks import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FORMAT = 2
_BUSY_SECONDS = 60.0

_TABLES = """
CREATE TABLE chains (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, size INTEGER NOT NULL);
CREATE TABLE records (chain INTEGER NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (chain, seq));
CREATE TABLE intake (position INTEGER PRIMARY KEY AUTOINCREMENT, data BLOB NOT NULL);
CREATE TABLE replies (
    command_id BLOB NOT NULL, chain TEXT NOT NULL, outcome TEXT NOT NULL, first_seq INTEGER, last_seq INTEGER,
    code TEXT NOT NULL, detail TEXT NOT NULL, body_digest BLOB NOT NULL, PRIMARY KEY (command_id, chain)
) WITHOUT ROWID;
CREATE TABLE quarantine (position INTEGER PRIMARY KEY, reason TEXT NOT NULL, data BLOB, at INTEGER NOT NULL DEFAULT 0);
CREATE TABLE snapshots (chain TEXT PRIMARY KEY, size INTEGER NOT NULL, digest BLOB NOT NULL, data BLOB NOT NULL);
CREATE TABLE writer (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, intake_position INTEGER NOT NULL);
INSERT INTO writer VALUES (1, 0, 0);
"""
# What brings a file of an older format up to the next one.
_UPGRADES = {1: "ALTER TABLE quarantine ADD COLUMN at INTEGER NOT NULL DEFAULT 0;PRAGMA user_version=2;"}


class SqliteStore:
    """Two writing connections and a pool of reading ones on a WAL file; any thread may use it.

    ``durable`` commits with ``synchronous=FULL``: what it wrote is on the disk when the transaction returns.
    ``relaxed`` commits with ``synchronous=NORMAL``: a killed process loses nothing, a power failure may lose the newest
    transactions, never an older one alone. Both append to the same write-ahead log, and the sync of a durable commit
    covers the whole log: everything relaxed before it is then on the disk as well.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        with typed_errors("ledger"):
            _create(path)
            self._durable = _connect(path, "FULL")
            self._relaxed = _connect(path, "NORMAL")
            self._sizes = ChainSizes(_connect(path, "NORMAL"))

    @contextmanager
    def durable(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that is on the disk when it ends."""
        with self._transaction(self._durable) as connection:
            yield connection

    @contextmanager
    def relaxed(self) -> Iterator[sqlite3.Connection]:
        """A write transaction that the next durable one carries to the disk."""
        with self._transaction(self._relaxed) as connection:
            yield connection

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        # One lock for both: a thread that waits here is woken at once, one that SQLite turns away sleeps and retries.
        with self._writing, typed_errors("ledger"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def sizes(self) -> dict[str, int]:
        """The number of committed records of every chain."""
        known = self._sizes.newest()
        if known is None:  # Closed, and somebody who waited looks for the last time.
            with self.reading() as connection:
                return read_sizes(connection)
        return known

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reads, borrowed for the block."""
        with typed_errors("ledger"):
            connection = self._borrow()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return _connect(self.path, "NORMAL")

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close every connection; one that is in use is closed when it is given back."""
        self._closed = True
        self._sizes.close()
        with self._writing:
            for connection in (*self._idle, self._durable, self._relaxed):
                connection.close()
            self._idle.clear()


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA synchronous={synchronous}")
    return connection


def _create(path: Path) -> None:
    """Make the file and its tables once, whoever comes first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f"{path.name}.lock")):
        connection = _connect(path, "FULL")
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version={_FORMAT};COMMIT;")
            elif version in _UPGRADES:
                connection.executescript(f"BEGIN IMMEDIATE;{_UPGRADES[version]}COMMIT;")
            elif version != _FORMAT:
                raise UnknownFormatError(f"{path} has the unknown format {version}.")
        finally:
            connection.close()
