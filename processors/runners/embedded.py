"""The embedded runner: one thread that feeds processors from the ledger and sends what they intend.

Delivery is at least once: positions live in memory, so every start reads each chain from its first record. What was
done before is not done again, because an intent's command id follows from its trigger and kind.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from processors.base import Settling
from processors.runners.outbox import Outbox, Sending, collect
from producers.feed import Feed
from producers.positions import PositionFile

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from processors.base import Processor, Recorded
    from producers.engines.port import LogEngine
    from producers.installation import Installation

WAIT_SECONDS = 0.5
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
log = structlog.get_logger(__name__)


class EmbeddedRunner:
    """Runs processors on the ledger of one installation, until told to stop."""

    def __init__(self, installation: Installation, engine: LogEngine, processors: Sequence[Processor]) -> None:
        self._processors = tuple(processors)
        self._outbox = Outbox(installation, engine, {processor.role for processor in self._processors})
        self._feed = Feed(engine, events=frozenset().union(*(processor.events for processor in self._processors)))
        self._pending: deque[Sending] = deque()
        names = [processor.name for processor in self._processors]
        self._position = PositionFile(installation.data_dir, names, installation.clock)

    def run(self, stop: threading.Event) -> None:
        """Feed processors until ``stop`` is set. What could not be sent is tried again, in order."""
        try:
            self._run(stop)
        finally:
            self._position.close()

    def _run(self, stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            try:
                busy = self.step()
                self._position.note(self._feed.positions)
                if not busy:
                    self._feed.wait(WAIT_SECONDS)
                failures = 0
            except (TensorGuardError, OSError) as error:
                # The ledger was full or out of reach: nothing is lost, since what was read is still pending.
                log.warning("runner_delayed", code=getattr(error, "code", "os_error"))
                stop.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1

    def step(self) -> bool:
        """Send what is pending, or else handle what is new; whether there was anything."""
        if self._pending:
            self._outbox.send(self._pending)
            return True
        batch = self._feed.poll()
        for recorded in batch:
            self._handle(recorded)
        if not batch:
            self._settle()
        busy = bool(batch or self._pending)
        self._outbox.send(self._pending)
        return busy

    def _handle(self, recorded: Recorded) -> None:
        for processor in self._processors:
            if type(recorded.event) in processor.events:
                self._pending += collect(processor, lambda p=processor: p.handle(recorded))  # type: ignore[misc]

    def _settle(self) -> None:
        for processor in self._processors:
            if isinstance(processor, Settling):
                self._pending += collect(processor, processor.caught_up)
