"""The embedded runner: one thread that feeds processors from the ledger and sends what they intend.

Delivery is at least once: positions live in memory, so every start reads each chain from its first record. What was
done before is not done again, because an intent's command id follows from its trigger and kind.
"""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError
from tensorguard.ledger.errors import MalformedRecordError
from tensorguard.ledger.record import outcome_id

from processors.base import Settling
from producers.feed import Feed
from producers.identities import make_envelope
from producers.positions import PositionFile
from producers.submitter import Submitter

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from tensorguard.ledger.envelope import Envelope

    from processors.base import Intent, Processor, Recorded
    from producers.engines.port import LogEngine
    from producers.installation import Installation

WAIT_SECONDS = 0.5
RETRY_SECONDS = (0.1, 0.5, 2.0, 5.0)
log = structlog.get_logger(__name__)


class EmbeddedRunner:
    """Runs processors on the ledger of one installation, until told to stop."""

    def __init__(self, installation: Installation, engine: LogEngine, processors: Sequence[Processor]) -> None:
        self._installation = installation
        self._processors = tuple(processors)
        self._producers = {role: installation.producer(role) for role in {p.role for p in processors}}
        self._submitter = Submitter(installation, engine)
        self._feed = Feed(engine, events=frozenset().union(*(processor.events for processor in self._processors)))
        self._pending: deque[tuple[str, Intent]] = deque()
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
            self._send()
            return True
        batch = self._feed.poll()
        for recorded in batch:
            self._handle(recorded)
        if not batch:
            self._settle()
        self._send()
        return bool(batch)

    def _handle(self, recorded: Recorded) -> None:
        for processor in self._processors:
            if type(recorded.event) in processor.events:
                self._collect(processor, lambda p=processor: p.handle(recorded))  # type: ignore[misc]

    def _settle(self) -> None:
        for processor in self._processors:
            if isinstance(processor, Settling):
                self._collect(processor, processor.caught_up)

    def _collect(self, processor: Processor, intents: Callable[[], Sequence[Intent]]) -> None:
        try:
            self._pending.extend((processor.role, intent) for intent in intents())
        except Exception as error:
            log.exception("processor_failed", processor=processor.name, error=type(error).__name__)

    def _send(self) -> None:
        for role, group in groupby(tuple(self._pending), key=lambda pair: pair[0]):
            intents = [intent for _, intent in group]
            envelopes = [envelope for intent in intents if (envelope := self._envelope(intent))]
            if envelopes:
                self._submitter.submit(self._producers[role], envelopes)
            for _ in intents:
                self._pending.popleft()

    def _envelope(self, intent: Intent) -> Envelope | None:
        try:
            return make_envelope(
                intent.command,
                chain=intent.chain,
                stream=intent.stream,
                command_id=outcome_id(intent.trigger, intent.kind),
                now=self._installation.clock(),
                expected_version=intent.expected_version,
            )
        except MalformedRecordError:
            log.exception("intent_malformed", command=type(intent.command).__name__)
            return None
