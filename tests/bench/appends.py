"""Durable appends a second, from a writer's signature to its committed answer, beside bare inserts of as many bytes."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.harness import Figure, in_threads, interleave, seconds
from tests.bench.ledger import Ledger, open_ledger
from tests.bench.sizes import AppendsSize

RAW = "SQLite inserts, synced one by one"
TABLE = "CREATE TABLE records (chain INTEGER, seq INTEGER, data BLOB, PRIMARY KEY (chain, seq))"


def run(size: AppendsSize, work: Path) -> list[Figure]:
    """Appends a second by the number of writers."""
    with open_ledger(work / "data") as ledger:
        _ours(ledger, size.writers[-1], size.writers[-1])  # so that every schema is on the chain
        plain = _PlainTable(work / "plain.db", ledger.newest_record_bytes())
        figures = [_figure(ledger, plain, size, writers) for writers in size.writers]
        plain.close()
    return figures


def _figure(ledger: Ledger, plain: _PlainTable, size: AppendsSize, writers: int) -> Figure:
    notes: list[str] = []

    def ours() -> float:
        elapsed = _ours(ledger, size.records, writers)
        notes.append(_stages(ledger.engine.seconds, elapsed, writers))
        return size.records / elapsed

    def theirs() -> float:
        return size.records / plain.insert(size.records, writers)

    found = interleave(size.rounds, {"ours": ours, "plain": theirs})
    name = f"appends by {writers} writer{'s' if writers > 1 else ''}"
    return Figure(name, "records/s", found["ours"], RAW, found["plain"], note=notes[-1])


def _ours(ledger: Ledger, records: int, writers: int) -> float:
    """Seconds that so many writers take for their equal shares; preparing the commands is not counted."""
    shares = _shares(ledger.submissions(records), writers)
    ledger.engine.seconds.clear()
    return seconds(lambda: in_threads([lambda share=share: _append_all(ledger, share) for share in shares]))


def _append_all(ledger: Ledger, envelopes: Sequence[Any]) -> None:
    for envelope in envelopes:
        ledger.append(envelope)


def _stages(spent: Mapping[str, float], elapsed: float, writers: int) -> str:
    """Where the time of one round went: a writer's, and the sequencer's beside it."""
    writing = elapsed * writers
    intake, waiting, commit = spent["submit"] / writing, spent["wait_reply"] / writing, spent["commit"] / elapsed
    return (
        f"a writer signs {1 - intake - waiting:.0%}, writes to the intake {intake:.0%}, waits for the decision "
        f"{waiting:.0%}; the sequencer commits {commit:.0%} of the time"
    )


def _shares(items: Sequence[Any], parts: int) -> list[Sequence[Any]]:
    return [items[part::parts] for part in range(parts)]


class _PlainTable:
    """What is compared with: one connection under a lock, which is faster than a connection each."""

    def __init__(self, path: Path, record_bytes: int) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute(TABLE)
        self._data = os.urandom(record_bytes)
        self._lock = threading.Lock()
        self._size = 0

    def insert(self, records: int, writers: int) -> float:
        """Seconds for so many records by so many writers, a transaction each."""
        shares = _shares(range(records), writers)
        return seconds(lambda: in_threads([lambda share=share: self._insert_all(len(share)) for share in shares]))

    def _insert_all(self, count: int) -> None:
        for _ in range(count):
            with self._lock:
                self._db.execute("INSERT INTO records VALUES (1, ?, ?)", (self._size, self._data))
                self._size += 1

    def close(self) -> None:
        self._db.close()
