"""What is recorded on the platform's own chain and concerns every tenant (its models, say): read once, told to all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog
from tensorguard.ledger.errors import LedgerError

from producers.deciders.registry import PLATFORM
from producers.engines.errors import LedgerDamagedError
from producers.feed import Feed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from processors.base import Recorded
    from producers.engines.port import LogReader
    from schemas.base import Event

log = structlog.get_logger(__name__)


class Shared:
    """The platform's records of some types, kept for chains that a worker is given later."""

    def __init__(self, reader: LogReader, events: Collection[type[Event]]) -> None:
        self._events = frozenset(events)
        self._feed = Feed(reader, chains=lambda chain: chain == PLATFORM, events=self._events)
        self._lock = threading.Lock()
        self._records: list[Recorded] = []

    def follow(self, chain: str) -> Callable[[], list[Recorded]]:
        """What gives, at each call, those that are new to a chain; to the platform's own nothing is."""
        if chain == PLATFORM:
            return list
        told = 0

        def fresh() -> list[Recorded]:
            nonlocal told
            with self._lock:
                self._read()
                first, told = told, len(self._records)
                return self._records[first:]

        return fresh

    def _read(self) -> None:
        """Read on. A record that cannot be read is the platform's trouble: it holds up no tenant."""
        try:
            while page := self._feed.poll():
                self._records += [recorded for recorded in page if type(recorded.event) in self._events]
        except (LedgerError, LedgerDamagedError) as error:
            log.warning("platform_not_read", code=error.code)
