"""Opening the views' database: SQLite beside the ledger today, any SQLAlchemy URL by the same tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from projections.errors import ViewsUnavailableError
from projections.models import VIEWS_VERSION, About, Base


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


def open_database(url: str) -> Engine:
    """The database with its tables; views that another version of the code folded are dropped, to be folded anew.

    Raises:
        ViewsUnavailableError: it cannot be opened or written.
    """
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _tune_sqlite)
    try:
        _bring_up(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        raise ViewsUnavailableError("The database of the read models cannot be opened.") from error
    return engine


def _bring_up(engine: Engine) -> None:
    if inspect(engine).get_table_names() and _version(engine) != VIEWS_VERSION:
        Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        if session.get(About, VIEWS_VERSION) is None:
            session.add(About(version=VIEWS_VERSION))


def _version(engine: Engine) -> int | None:
    if not inspect(engine).has_table(About.__tablename__):
        return None
    with Session(engine) as session:
        return session.scalar(select(About.version))


def _tune_sqlite(connection: Any, _record: object) -> None:
    """Readers beside one writer; a lost tail is folded again, so a commit need not reach the disk at once."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def remove_sqlite(path: Path) -> None:
    """Remove a SQLite database with its journal files, if it is there."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
