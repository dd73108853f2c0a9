"""Placement: which worker trains which run. One worker, one lease per run; a new worker takes over every run.

A lease that the ledger refused (it was asked for while nobody decided, say, and its time ran out) is asked for again,
after a pause that doubles each time.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from tensorguard.ledger.record import outcome_id

from processors.base import Intent
from schemas import events as e
from schemas.commands import GrantLease

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processors.base import Recorded
    from producers.identities import Producer
    from schemas.base import Event

KIND = "GrantLease"
SUBMITTED: tuple[type[Any], ...] = (
    e.ForwardBackwardSubmitted,
    e.ForwardSubmitted,
    e.OptimStepSubmitted,
    e.SampleSubmitted,
    e.SaveStateSubmitted,
    e.LoadStateSubmitted,
)
FINISHED: tuple[type[Any], ...] = (
    e.ForwardBackwardCompleted,
    e.ForwardCompleted,
    e.StepApplied,
    e.SampleCompleted,
    e.CheckpointSaved,
    e.CheckpointLoaded,
    e.OperationFailed,
    e.OperationCancelled,
)


@dataclass(slots=True)
class _Run:
    created: bytes
    worker: str = ""
    closed: bool = False
    unfinished: int = 0

    def wants(self, worker: str) -> bool:
        """Whether this run needs a lease for a worker; a closed one only to finish what it had taken."""
        return self.worker != worker and (not self.closed or self.unfinished > 0)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A lease that was asked for; refused, it is asked for again at ``again``, in the dispatcher's seconds."""

    attempt: int
    command_id: bytes
    again: float | None = None


def worker_id(producer: Producer) -> str:
    """A fresh id for a worker process, bound to the key that signs its outcomes."""
    return f"{producer.key_id.hex()}.{secrets.token_hex(8)}"


class Dispatcher:
    """Grants leases to the current worker; :meth:`assign` names another one, for instance after a restart."""

    name = "dispatcher"
    role = "dispatcher"
    events: ClassVar[frozenset[type[Event]]] = frozenset(
        {
            e.RunCreated,
            e.RunLeaseGranted,
            e.RunRolledBack,
            e.RunClosed,
            e.CommandRejected,
            *SUBMITTED,
            *FINISHED,
        }
    )

    def __init__(self, worker: str | None = None, seconds: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._worker = worker
        self._seconds = seconds
        self._runs: dict[tuple[str, str], _Run] = {}
        self._asked: dict[tuple[str, str], _Asked] = {}

    def assign(self, worker: str | None) -> None:
        """Let another worker, or for now none, have every run; from any thread."""
        with self._lock:
            self._worker = worker
            self._asked.clear()

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        """Fold; nothing follows before everything is folded."""
        event: Any = recorded.event
        with self._lock:
            if isinstance(event, e.CommandRejected):
                self._refused(recorded.chain, event)
            elif isinstance(event, e.RunCreated):
                self._runs[recorded.chain, event.run_id] = _Run(recorded.meta.event_id)
            elif run := self._runs.get((recorded.chain, event.run_id)):
                _fold(run, event)
        return ()

    def caught_up(self) -> Sequence[Intent]:
        """A lease for every run that needs one and has not been asked for yet, or was refused some time ago."""
        with self._lock:
            if self._worker is None:
                return ()
            worker, now = self._worker, self._seconds()
            wanting = [key for key, run in self._runs.items() if run.wants(worker) and self._due(key, now)]
            return [self._intent(key, worker) for key in wanting]

    def _due(self, key: tuple[str, str], now: float) -> bool:
        asked = self._asked.get(key)
        return asked is None or (asked.again is not None and now >= asked.again)

    def _intent(self, key: tuple[str, str], worker: str) -> Intent:
        chain, run_id = key
        attempt = self._asked[key].attempt + 1 if key in self._asked else 0
        trigger = self._runs[key].created + worker.encode() + (b"\0%d" % attempt if attempt else b"")
        self._asked[key] = _Asked(attempt, outcome_id(trigger, KIND))
        return Intent(chain, f"run/{run_id}", GrantLease(run_id, worker), trigger, KIND)

    def _refused(self, chain: str, event: e.CommandRejected) -> None:
        key = (chain, event.stream.removeprefix("run/"))
        asked = self._asked.get(key)
        if asked is not None and asked.command_id == event.command_id:
            self._asked[key] = replace(asked, again=self._seconds() + 2.0**asked.attempt)


def _fold(run: _Run, event: Any) -> None:
    if isinstance(event, e.RunLeaseGranted):
        run.worker = event.worker
    elif isinstance(event, e.RunRolledBack):
        run.unfinished = 0
    elif isinstance(event, e.RunClosed):
        run.closed = True
    elif isinstance(event, SUBMITTED):
        run.unfinished += 1
    elif event.operation_id is not None:
        run.unfinished -= 1
