"""How large every chain is, asked of the SQLite file once after each commit, however many threads want to know.

After every commit all waiting readers of a process look at the sizes, and with many chains that query is what they
cost. SQLite itself says whether anybody has committed since a connection looked (`data_version`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from producers.engines.sqlite_errors import typed_errors

if TYPE_CHECKING:
    from sqlite3 import Connection


def read_sizes(connection: Connection) -> dict[str, int]:
    """The number of committed records of every chain."""
    return dict(connection.execute("SELECT name, size FROM chains").fetchall())


class ChainSizes:
    """The sizes by a connection of its own, which never writes: its own commits would not count as a change."""

    def __init__(self, connection: Connection) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = connection
        self._version: int | None = None
        self._known: dict[str, int] = {}

    def newest(self) -> dict[str, int] | None:
        """The number of committed records of every chain, as of this call or later; None once it is closed."""
        with self._lock, typed_errors("ledger"):
            if self._connection is None:
                return None
            # The version before the sizes: what is committed in between is only asked for once more.
            version = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            if version != self._version:
                self._known = read_sizes(self._connection)
                self._version = version
            return dict(self._known)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
