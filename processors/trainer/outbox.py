"""Outcomes on their way to the ledger: signed, put into the intake in order, and watched until they are decided."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError
from tensorguard.ledger.record import outcome_id

from producers.engines.port import ACCEPTED
from producers.identities import make_envelope
from schemas.events import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.base import Recorded
    from processors.trainer.live import LiveRun
    from processors.trainer.runs import Pending
    from processors.trainer.watch import Watch
    from producers.engines.port import LogReader
    from producers.identities import Producer
    from producers.submitter import Submitter
    from schemas.base import Command

WINDOW = 64
RETRY_SECONDS = 1.0
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A command about a run. ``trigger`` names what it is the outcome of: the same trigger has one outcome."""

    chain: str
    run_id: str
    lease_epoch: int
    command: Command
    trigger: bytes
    correlation: bytes | None = None
    trace: bytes | None = None


def outcome_of(live: LiveRun, command: Command, trigger: bytes, pending: Pending | None = None) -> Outcome:
    """What a command reports of a run under its present lease; of an operation under the ids of its request."""
    correlation, trace = (pending.correlation, pending.trace) if pending else (None, None)
    return Outcome(live.view.chain, live.view.run_id, live.lease_epoch, command, trigger, correlation, trace)


class Outbox:
    """At most ``WINDOW`` outcomes are under way; sending never waits for their decisions. Any thread may send."""

    def __init__(
        self,
        submitter: Submitter,
        reader: LogReader,
        producer: Producer,
        clock: Callable[[], int],
        stop: threading.Event,
        watch: Watch,
    ) -> None:
        self._submitter = submitter
        self._reader = reader
        self._producer = producer
        self._clock = clock
        self._stop = stop
        self._watch = watch
        self._lock = threading.Lock()
        self._under_way: dict[bytes, Outcome] = {}

    @property
    def full(self) -> bool:
        """Whether the window is used up."""
        with self._lock:
            return len(self._under_way) >= WINDOW

    def send(self, outcome: Outcome) -> None:
        """Put an outcome into the intake. While there is no space for it, wait: later ones must not overtake it."""
        kind = type(outcome.command).__name__
        command_id = outcome_id(outcome.trigger + outcome.lease_epoch.to_bytes(8, "big"), kind)
        with self._watch.submission(kind, command_id, outcome.trace), self._lock:
            self._under_way[command_id] = outcome
            while not self._try_send(command_id, outcome):
                if self._stop.wait(RETRY_SECONDS):
                    return

    def _try_send(self, command_id: bytes, outcome: Outcome) -> bool:
        envelope = make_envelope(
            outcome.command,
            chain=outcome.chain,
            stream=f"run/{outcome.run_id}",
            command_id=command_id,
            now=self._clock(),
            correlation=outcome.correlation,
            trace=outcome.trace,
        )
        try:
            self._submitter.submit(self._producer, [envelope])
        except (TensorGuardError, OSError) as error:
            log.warning("outcome_delayed", code=getattr(error, "code", "os_error"))
            return False
        return True

    def decided(self, recorded: Recorded) -> tuple[Outcome, str] | None:
        """Learn from a record; an outcome of ours that was rejected, with the code, if the record is that."""
        event = recorded.event
        with self._lock:
            if isinstance(event, CommandRejected):
                outcome = self._under_way.pop(event.command_id, None)
                return (outcome, event.code) if outcome else None
            if recorded.meta.cause is not None:
                self._under_way.pop(recorded.meta.cause, None)
        return None

    def refused(self) -> list[tuple[Outcome, str]]:
        """Outcomes that were refused without a record, because our key is not enrolled, say; each told once."""
        with self._lock:
            waiting = list(self._under_way.items())
        found = []
        for command_id, outcome in waiting:
            reply = self._reader.reply(command_id, outcome.chain)
            if reply is not None and reply.outcome != ACCEPTED:
                found.append((outcome, reply.code))
                self.forget(command_id)
        return found

    def forget(self, command_id: bytes) -> None:
        """Watch an outcome no longer."""
        with self._lock:
            self._under_way.pop(command_id, None)

    @property
    def waiting(self) -> bool:
        """Whether anything is under way."""
        with self._lock:
            return bool(self._under_way)
