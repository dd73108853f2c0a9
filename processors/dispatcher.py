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
from producers.deciders.run import EVENTS, RunState, evolve
from schemas.commands import GrantLease
from schemas.events import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processors.base import Recorded
    from producers.identities import Producer
    from schemas.base import Event

KIND = "GrantLease"


@dataclass(slots=True)
class _Run:
    created: bytes
    state: RunState

    def wants(self, worker: str) -> bool:
        """Whether this run needs a lease for a worker."""
        return self.state.worker != worker


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
    events: ClassVar[frozenset[type[Event]]] = EVENTS | {CommandRejected}

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
            if isinstance(event, CommandRejected):
                self._refused(recorded.chain, event)
            else:
                self._fold((recorded.chain, event.run_id), event, recorded.meta.event_id)
        return ()

    def _fold(self, key: tuple[str, str], event: Event, event_id: bytes) -> None:
        """A closed run is kept in mind until it has nothing left to do; then it never needs a lease again."""
        known = self._runs.get(key)
        state = evolve(known.state if known else None, event)
        if state is None or state.idle():
            self._runs.pop(key, None)
            self._asked.pop(key, None)
        elif known is None:
            self._runs[key] = _Run(event_id, state)
        else:
            known.state = state

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

    def _refused(self, chain: str, event: CommandRejected) -> None:
        key = (chain, event.stream.removeprefix("run/"))
        asked = self._asked.get(key)
        if asked is not None and asked.command_id == event.command_id:
            self._asked[key] = replace(asked, again=self._seconds() + 2.0**asked.attempt)
