"""How far the read models are folded, looked at from outside: nothing is made, brought up or locked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from projections.database import sqlite_url
from projections.errors import ViewsUnavailableError
from projections.models import VIEWS_VERSION, About, Watermark

if TYPE_CHECKING:
    from pathlib import Path


def watermarks(path: Path) -> dict[str, int] | None:
    """Records folded, by chain; None where there are no views that this build would go on with.

    Raises:
        ViewsUnavailableError: the database cannot be read.
    """
    if not path.exists():
        return None
    engine = create_engine(sqlite_url(path))
    try:
        if not inspect(engine).has_table(About.__tablename__):
            return None
        with Session(engine) as session:
            if session.scalar(select(About.version)) != VIEWS_VERSION:
                return None
            return {mark.chain: mark.size for mark in session.scalars(select(Watermark))}
    except SQLAlchemyError as error:
        raise ViewsUnavailableError("The database of the read models cannot be read.") from error
    finally:
        engine.dispose()
