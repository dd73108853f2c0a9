"""Which engine keeps the ledger: the one place that looks at where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from producers.engines.port import LogEngine
    from producers.settings import Settings


def open_engine(settings: Settings, data_dir: Path, nap: float = 0.0) -> LogEngine:
    """A handle on the ledger of a data directory.

    ``nap``: seconds that this process may learn later of what others wrote, so as to be woken less often.

    Raises:
        EngineError: the ledger cannot be opened.
    """
    from producers.engines.sqlite import SqliteEngine  # noqa: PLC0415 -- an engine is loaded where it is used

    return SqliteEngine(settings.ledger_path(data_dir), nap)
