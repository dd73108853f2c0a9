"""Placement: which worker trains which run. One worker, one lease per run; a new worker takes over every run."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from processors.base import Intent
from schemas import events as e
from schemas.commands import GrantLease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processors.base import Recorded
    from producers.identities import Producer
    from schemas.base import Event

KIND = "GrantLease"
SUBMITTED: tuple[type[Any], ...] = (
    e.ForwardBackwardSubmitted,
    e.OptimStepSubmitted,
    e.SampleSubmitted,
    e.SaveStateSubmitted,
    e.LoadStateSubmitted,
)
FINISHED: tuple[type[Any], ...] = (
    e.ForwardBackwardCompleted,
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


def worker_id(producer: Producer) -> str:
    """A fresh id for a worker process, bound to the key that signs its outcomes."""
    return f"{producer.key_id.hex()}.{secrets.token_hex(8)}"


class Dispatcher:
    """Grants leases to the current worker; :meth:`assign` names another one, for instance after a restart."""

    name = "dispatcher"
    role = "dispatcher"
    events: ClassVar[frozenset[type[Event]]] = frozenset(
        {e.RunCreated, e.RunLeaseGranted, e.RunRolledBack, e.RunClosed, *SUBMITTED, *FINISHED}
    )

    def __init__(self, worker: str | None = None) -> None:
        self._lock = threading.Lock()
        self._worker = worker
        self._runs: dict[tuple[str, str], _Run] = {}
        self._asked: set[tuple[str, str]] = set()

    def assign(self, worker: str | None) -> None:
        """Let another worker, or for now none, have every run; from any thread."""
        with self._lock:
            self._worker = worker
            self._asked.clear()

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        """Fold; nothing follows before everything is folded."""
        event: Any = recorded.event
        with self._lock:
            if isinstance(event, e.RunCreated):
                self._runs[recorded.chain, event.run_id] = _Run(recorded.meta.event_id)
            elif run := self._runs.get((recorded.chain, event.run_id)):
                _fold(run, event)
        return ()

    def caught_up(self) -> Sequence[Intent]:
        """A lease for every run that needs one and has not been asked for yet."""
        with self._lock:
            if self._worker is None:
                return ()
            wanting = [key for key, run in self._runs.items() if run.wants(self._worker) and key not in self._asked]
            self._asked.update(wanting)
            return [self._intent(*key, self._worker) for key in wanting]

    def _intent(self, chain: str, run_id: str, worker: str) -> Intent:
        trigger = self._runs[chain, run_id].created + worker.encode()
        return Intent(chain, f"run/{run_id}", GrantLease(run_id, worker), trigger, KIND)


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
