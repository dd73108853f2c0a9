"""One kit per engine: how the contract suite gets handles on a ledger of that kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from producers.engines.kafka import KafkaConfig, KafkaEngine
from producers.engines.sqlite import SqliteEngine
from tests.support.kafka import broker, forget_replies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from producers.engines.port import LogEngine


class EngineKit(Protocol):
    """A ledger, and any number of handles on it."""

    def open(self) -> LogEngine:
        """One more handle, as another process would have."""

    def age(self) -> None:
        """Let so much time pass that handles opened from now on know no more than the engine keeps for good."""

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

    def age(self) -> None:
        """A file forgets nothing."""

    def close(self) -> None:
        for engine in self._open:
            engine.close()


class Unframed:
    """No frame at all: for tests whose records are any bytes, not records of the ledger's format."""

    def prepare(self) -> None:
        """Nothing is needed."""

    def frame(self, record: bytes) -> bytes:
        return record

    def record(self, framed: bytes | None) -> bytes:
        return framed or b""


class KafkaKit:
    """The engine on Kafka, on topics of its own."""

    def __init__(self, _: Path) -> None:
        self.config: KafkaConfig = broker().config()
        self._open: list[KafkaEngine] = []

    def open(self) -> KafkaEngine:
        engine = KafkaEngine(self.config)
        self._open.append(engine)
        return engine

    def age(self) -> None:
        forget_replies(self.config)

    def close(self) -> None:
        for engine in self._open:
            engine.close()


KITS: dict[str, Callable[[Path], EngineKit]] = {"kafka": KafkaKit, "sqlite": SqliteKit}
