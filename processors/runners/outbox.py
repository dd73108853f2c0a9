"""Sending what processors intend: as signed commands, each under an id that follows from its trigger and kind."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import structlog
from tensorguard.ledger.errors import MalformedRecordError
from tensorguard.ledger.record import outcome_id

from producers.identities import make_envelope
from producers.submitter import Submitter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from tensorguard.ledger.envelope import Envelope

    from processors.base import Intent, Processor
    from producers.engines.port import LogEngine
    from producers.installation import Installation

log = structlog.get_logger(__name__)


class Sending(NamedTuple):
    """An intent, and the role whose key signs it."""

    role: str
    intent: Intent


class Outbox:
    """Signs and submits; any thread may use it."""

    def __init__(self, installation: Installation, engine: LogEngine, roles: Collection[str]) -> None:
        self._installation = installation
        self._producers = {role: installation.producer(role) for role in set(roles)}
        self._submitter = Submitter(installation, engine)

    def send(self, pending: deque[Sending]) -> None:
        """Send everything, in order; what could not be sent stays pending.

        Raises:
            TensorGuardError, OSError: the ledger is full or out of reach. What was sent may be sent again.
        """
        for role, group in groupby(tuple(pending), key=lambda sending: sending.role):
            intents = [sending.intent for sending in group]
            envelopes = [envelope for intent in intents if (envelope := self._envelope(intent))]
            if envelopes:
                self._submitter.submit(self._producers[role], envelopes)
            for _ in intents:
                pending.popleft()

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


def collect(processor: Processor, intents: Callable[[], Sequence[Intent]]) -> list[Sending]:
    """What a processor intends; one that fails is logged, and intends nothing."""
    try:
        return [Sending(processor.role, intent) for intent in intents()]
    except Exception as error:
        log.exception("processor_failed", processor=processor.name, error=type(error).__name__)
        return []
