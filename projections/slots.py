"""Views of one process among several: each process of doors folds a database of its own, in a slot that it holds.

A slot is a file beside the others and a lock. The first one is that of a server with a single process. What a slot
holds stays when its process ends, so that the next one has little to fold.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import Engine, select
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.orm import Session
from tensorguard.ledger.merkle import leaf_hash

from producers.locks import FileLock, is_locked
from projections.database import open_database, remove_sqlite, sqlite_url
from projections.errors import ViewsInUseError, ViewsUnavailableError
from projections.models import Watermark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from producers.engines.port import LogReader

MOST = 64


def slots(data_dir: Path, first: Path) -> Iterator[tuple[Path, Path]]:
    """Every slot's file and lock; ``first`` is the file of the first one."""
    for number in range(MOST):
        name = f"-{number}" if number else ""
        yield first.with_name(f"{first.stem}{name}{first.suffix}"), data_dir / "run" / f"views{name}.lock"


def held(data_dir: Path, first: Path) -> Sequence[Path]:
    """The files of the slots that processes hold now."""
    return [path for path, lock in slots(data_dir, first) if is_locked(lock)]


@contextmanager
def holding(data_dir: Path, first: Path) -> Iterator[Path]:
    """Hold the first free slot for the length of a block; its file, which may not be there yet.

    Raises:
        ViewsInUseError: every slot is held.
    """
    for path, place in slots(data_dir, first):
        lock = FileLock(place)
        if lock.try_acquire():
            try:
                yield path
            finally:
                lock.release()
            return
    raise ViewsInUseError(f"{MOST} processes keep read models of this data directory.")


@contextmanager
def holding_all(data_dir: Path, first: Path) -> Iterator[Sequence[Path]]:
    """Hold every slot for the length of a block; the files of those that there are, the first one always.

    Raises:
        ViewsInUseError: a process holds one of them.
    """
    with ExitStack() as stack:
        files = []
        for path, place in slots(data_dir, first):
            if path == first or path.exists() or place.exists():
                lock = FileLock(place)
                if not lock.try_acquire():
                    raise ViewsInUseError("A server keeps the read models of this data directory.")
                stack.callback(lock.release)
                files.append(path)
        yield files


def open_slot(path: Path, reader: LogReader) -> Engine:
    """The database of a slot; what is damaged, or was folded from another ledger, is removed, to be folded anew.

    Raises:
        ViewsUnavailableError: it cannot be opened or written.
    """
    database = _undamaged(path)
    if database is not None and _stands_on(database, reader):
        return database
    if database is not None:
        database.dispose()
    remove_sqlite(path)
    return open_database(sqlite_url(path))


def _undamaged(path: Path) -> Engine | None:
    try:
        return open_database(sqlite_url(path))
    except ViewsUnavailableError as error:
        if type(error.__cause__) is not DatabaseError:  # others, such as a full disk, do not speak of the file
            raise
        return None


def _stands_on(database: Engine, reader: LogReader) -> bool:
    """Whether the last record that is folded of each chain is on the ledger."""
    try:
        with Session(database) as session:
            marks = session.scalars(select(Watermark)).all()
    except SQLAlchemyError as error:
        raise ViewsUnavailableError("The database of the read models cannot be read.") from error
    return all(_is_record(reader, mark) for mark in marks if mark.size)


def _is_record(reader: LogReader, mark: Watermark) -> bool:
    if reader.size(mark.chain) < mark.size:
        return False
    last = reader.read(mark.chain, mark.size - 1, 1)
    return bool(last) and leaf_hash(last[0]).hex() == mark.last_leaf_hash
