"""One kit per engine: how the contract suite gets handles on a ledger of that kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from producers.engines.sqlite import SqliteEngine

if TYPE_CHECKING:
    from pathlib import Path

    from producers.engines.port import LogEngine


class EngineKit(Protocol):
    """A ledger, and any number of handles on it."""

    def open(self) -> LogEngine:
        """One more handle, as another process would have."""

    def close(self) -> None:
        """Close all handles."""


class SqliteKit:
    """The embedded engine on a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[SqliteEngine] = []

    def open(self) -> SqliteEngine:
        engine = SqliteEngine(self._folder / "ledger.db")
        self._open.append(engine)
        return engine

    def close(self) -> None:
        for engine in self._open:
            engine.close()


KITS = {"sqlite": SqliteKit}
