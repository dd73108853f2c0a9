"""The dispatcher: every run that has work left is held by a trainer that is there.

It grants leases by what the roster says, and moves a run only when its trainer is lost. Each grant names the lease that
it replaces, so of two dispatchers that grant at once one alone wins. A grant that the ledger refused, or that nothing
was heard of, is asked for again after a pause that doubles each time.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from tensorguard.ledger.record import outcome_id

from processors.base import Intent
from processors.placement.choice import Grant, Need, choose
from processors.placement.grants import Grants
from producers.deciders.run import EVENTS, RunState, evolve
from schemas.commands import GrantLease
from schemas.events import CommandRejected, RunCreated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from processors.base import Recorded
    from processors.placement.roster import Roster
    from processors.placement.standing import Standing
    from schemas.base import Event

KIND = "GrantLease"
GATHER_SECONDS = 1.0
"""Trainers that start together are heard of within so long."""
UNHEARD_SECONDS = 60.0
"""A grant that was not decided for so long is asked for again."""
_MOST_DOUBLINGS = 6
Key = tuple[str, str]


@dataclass(slots=True)
class _Run:
    """A run with work left; ``spent`` are the ids of grants in place of its present lease: asked for, or refused."""

    created: bytes
    base: bytes
    state: RunState
    spent: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A grant under way, or refused: not asked for again before ``again``, in the dispatcher's seconds."""

    grant: Grant
    command_id: bytes
    again: float


class Dispatcher:
    """Grants leases on the runs of one chain, or of all.

    ``size_of`` gives the bytes of a base model (0: not known). Dispatchers of a process share their ``grants``: each
    has to know what the others gave to a trainer a moment ago. Where there was nobody, the first trainer that comes is
    not given all runs at once: for ``gather_seconds`` others may come.
    """

    name = "dispatcher"
    role = "dispatcher"
    events: ClassVar[frozenset[type[Event]]] = EVENTS | {CommandRejected}

    def __init__(
        self,
        roster: Roster,
        size_of: Callable[[bytes], int] = lambda _: 0,
        chain: str | None = None,
        seconds: Callable[[], float] = time.monotonic,
        grants: Grants | None = None,
        gather_seconds: float = 0.0,
    ) -> None:
        self._lock = threading.Lock()
        self._roster = roster
        self._size_of = size_of
        self._chain = chain
        self._seconds = seconds
        self._given = grants or Grants(seconds)
        self._gather_seconds = gather_seconds
        self._gathered: float | None = None
        self._runs: dict[Key, _Run] = {}
        self._asked: dict[Key, _Asked] = {}

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        """Fold; nothing follows before everything is folded."""
        if self._chain not in (None, recorded.chain):
            return ()
        event: Any = recorded.event
        with self._lock:
            if isinstance(event, CommandRejected):
                self._refused((recorded.chain, event.stream.removeprefix("run/")), event)
            else:
                self._fold((recorded.chain, event.run_id), event, recorded.meta.event_id)
        return ()

    def _fold(self, key: Key, event: Event, event_id: bytes) -> None:
        """A closed run is kept in mind until it has nothing left to do; then it never needs a lease again."""
        known = self._runs.get(key)
        state = evolve(known.state if known else None, event)
        if state is None or state.idle():
            self._runs.pop(key, None)
            self._asked.pop(key, None)
        elif isinstance(event, RunCreated):
            self._runs[key] = _Run(event_id, event.manifest_digest, state)
        elif known is not None:
            self._leased(key, known, state)

    def _leased(self, key: Key, run: _Run, state: RunState) -> None:
        if state.lease_epoch != run.state.lease_epoch:
            run.spent.clear()
            asked = self._asked.get(key)
            if asked is not None and asked.grant.worker != state.worker:
                del self._asked[key]
        run.state = state

    def _refused(self, key: Key, event: CommandRejected) -> None:
        run, asked = self._runs.get(key), self._asked.get(key)
        if run is None or event.command_type != KIND:
            return
        run.spent.add(event.command_id)
        if asked is not None and asked.command_id == event.command_id:
            pause = 2.0 ** min(len(run.spent) - 1, _MOST_DOUBLINGS)
            self._asked[key] = replace(asked, again=self._seconds() + pause)

    def caught_up(self) -> Sequence[Intent]:
        """A grant for every run that no trainer holds that is there or may come back."""
        standings, now = self._roster.standings(), self._seconds()
        with self._lock:
            return list(self._grants(standings, now)) if self._have_gathered(standings, now) else ()

    def _have_gathered(self, standings: Sequence[Standing], now: float) -> bool:
        if not standings:
            self._gathered = None
            return False
        if self._gathered is None:
            self._gathered = now + self._gather_seconds
        return now >= self._gathered

    def _grants(self, standings: Sequence[Standing], now: float) -> Iterator[Intent]:
        alive = {standing.worker for standing in standings}
        staying = [standing for standing in standings if not standing.leaving]
        recent = self._given.recent()
        for key, run in self._runs.items():
            if self._wants(run.state, alive) and self._due(key, alive, now):
                need = Need(run.base.hex(), self._size_of(run.base))
                if worker := choose(staying, need, recent):
                    recent[grant := Grant(worker, need)] += 1
                    self._given.add(grant)
                    yield self._intent(key, run, grant, now)

    def _wants(self, state: RunState, alive: set[str]) -> bool:
        """Whether a run needs another trainer. One that is silent keeps its runs until it is lost."""
        return state.lease_epoch == 0 or (state.worker not in alive and self._roster.lost(state.worker))

    def _due(self, key: Key, alive: set[str], now: float) -> bool:
        """Whether nothing is under way for a run; what was to go to a trainer that is gone is asked for anew."""
        asked = self._asked.get(key)
        return asked is None or now >= asked.again or asked.grant.worker not in alive

    def _intent(self, key: Key, run: _Run, grant: Grant, now: float) -> Intent:
        chain, run_id = key
        trigger = next(each for each in _triggers(run, grant.worker) if outcome_id(each, KIND) not in run.spent)
        run.spent.add(command_id := outcome_id(trigger, KIND))
        self._asked[key] = _Asked(grant, command_id, now + UNHEARD_SECONDS)
        command = GrantLease(run_id, grant.worker, run.state.lease_epoch)
        return Intent(chain, f"run/{run_id}", command, trigger, KIND)


def _triggers(run: _Run, worker: str) -> Iterator[bytes]:
    """One after another for each time that a trainer is to be given a run in place of its present lease."""
    attempt = 0
    while True:
        yield b"%b%b\0%d\0%d" % (run.created, worker.encode(), run.state.lease_epoch, attempt)
        attempt += 1
