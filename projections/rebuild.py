"""Views from nothing: folded beside the live ones, then put in their place in one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, text

from producers.engines.port import LogReader
from producers.locks import FileLock
from producers.settings import read
from projections.database import open_database, remove_sqlite, sqlite_url
from projections.errors import CorruptLedgerError, ForeignHistoryError, ViewsInUseError
from projections.projector import Projector
from projections.slots import holding_all

LOCK_FILE = Path("run") / "views.lock"


@contextmanager
def keeping_views(data_dir: Path) -> Iterator[None]:
    """Be the one process that writes the views of a data directory.

    Raises:
        ViewsInUseError: another process does.
    """
    lock = FileLock(data_dir / LOCK_FILE)
    if not lock.try_acquire():
        raise ViewsInUseError("A server keeps the read models of this data directory.")
    try:
        yield
    finally:
        lock.release()


def rebuild(data_dir: Path, reader: LogReader) -> dict[str, int]:
    """Fold the whole ledger into a fresh database and swap it in; records folded, by chain.

    A crash leaves the old views, the new ones, or none, which the next start folds anew.

    Raises:
        ViewsInUseError: a server runs on this data directory.
        CorruptLedgerError: the ledger cannot be folded; the old views are untouched.
    """
    live = read(data_dir).settings.views_path(data_dir)
    fresh = live.with_name(live.name + ".rebuilt")
    with holding_all(data_dir, live) as files:
        remove_sqlite(fresh)
        sizes = _fold_into(fresh, reader)
        for path in files:  # those of further processes are folded anew when these start
            remove_sqlite(path)
        fresh.rename(live)
    return sizes


def _fold_into(path: Path, reader: LogReader) -> dict[str, int]:
    database = open_database(sqlite_url(path))
    try:
        projector = Projector(reader, database)
        try:
            projector.catch_up()
        except ForeignHistoryError as error:  # the views began empty: it is the ledger that does not hold together
            raise CorruptLedgerError(error.detail) from error
        _settle(database)
        return projector.sizes()
    finally:
        database.dispose()


def _settle(database: Engine) -> None:
    """Bring everything into the one file that is renamed."""
    with database.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
