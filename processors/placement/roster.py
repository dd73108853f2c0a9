"""The roster: who of the trainers is there. Heartbeats, not events: nothing of it is on the ledger.

A trainer that fell silent is not given anything new; what it holds moves only once it is *lost*: it left, or it was
silent while others were heard. So who was cut off himself, or stopped for a while, does not take all others for lost.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from processors.placement.errors import StandingError
from processors.placement.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ANNOUNCE_SECONDS = 2.0
"""How often a trainer announces itself at least."""
LEASE_SECONDS = 15.0
_REMEMBERED = 1024
log = structlog.get_logger(__name__)


class Announcer(Protocol):
    """Where trainers, and who starts them, say how they stand."""

    def announce(self, standing: Standing) -> None:
        """A trainer stands so; never waits for anybody to hear it."""

    def leave(self, worker: str) -> None:
        """A trainer is gone for good: nothing that is still said in its name counts."""

    def close(self) -> None:
        """Give back what this holds; what was said before is heard, and nobody is there any more for who asks here."""


class Roster(Announcer, Protocol):
    """Who is there, and who is not any more. Any thread may ask."""

    def standings(self) -> Sequence[Standing]:
        """The trainers that were heard of within the lease time, by their ids."""

    def lost(self, worker: str) -> bool:
        """Whether a trainer will not go on with what it holds: it left, or fell silent while others were heard."""

    def wait(self, timeout: float) -> None:
        """Block until anything is heard, or seconds passed."""


@dataclass(frozen=True, slots=True)
class _Entry:
    standing: Standing
    heard: float
    received: float


class Attendance:
    """What follows from what was heard; the core of every roster.

    Two clocks: ``seconds`` is this process's, and the other one goes by what is heard: a word at ``at`` (seconds of
    whoever stamps them, one for all) moves it on, by a third of the lease time at most. ``strangers_lost``: whether a
    trainer that was never heard of cannot be alive; else it is lost after the lease time, as if it was heard at the
    beginning.
    """

    def __init__(
        self,
        lease_seconds: float = LEASE_SECONDS,
        seconds: Callable[[], float] = time.monotonic,
        *,
        strangers_lost: bool,
    ) -> None:
        self._lease = lease_seconds
        self._seconds = seconds
        self._strangers_lost = strangers_lost
        self._lock = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._left: OrderedDict[str, None] = OrderedDict()
        self._clock = 0.0
        self._newest: float | None = None

    def heard(self, standing: Standing, at: float) -> None:
        """A trainer said so at that time."""
        with self._lock:
            self._move_on(at)
            if standing.worker not in self._left:
                self._entries[standing.worker] = _Entry(standing, self._clock, self._seconds())
                self._forget_old()
            self._lock.notify_all()

    def left(self, worker: str) -> None:
        """A trainer is gone, whatever is heard of it later."""
        with self._lock:
            self._entries.pop(worker, None)
            self._left[worker] = None
            while len(self._left) > _REMEMBERED:
                self._left.popitem(last=False)
            self._lock.notify_all()

    def wait(self, timeout: float) -> None:
        """See :class:`Roster`."""
        with self._lock:
            self._lock.wait(timeout)

    def standings(self) -> list[Standing]:
        """See :class:`Roster`."""
        with self._lock:
            now = self._seconds()
            alive = [
                entry.standing
                for entry in self._entries.values()
                if now - entry.received <= self._lease and not self._silent(entry.heard)
            ]
        return sorted(alive, key=lambda standing: standing.worker)

    def lost(self, worker: str) -> bool:
        """See :class:`Roster`."""
        with self._lock:
            if worker in self._left:
                return True
            entry = self._entries.get(worker)
            if entry is not None:
                return self._silent(entry.heard)
            return self._strangers_lost or self._silent(0.0)

    def _silent(self, heard: float) -> bool:
        return self._clock - heard > self._lease

    def _move_on(self, at: float) -> None:
        newest = at if self._newest is None else self._newest
        self._clock += min(max(0.0, at - newest), self._lease / 3)
        self._newest = max(at, newest)

    def _forget_old(self) -> None:
        """Of those that were silent for long only so many are remembered; who is forgotten is a stranger."""
        if len(self._entries) > _REMEMBERED:
            oldest = min(self._entries, key=lambda worker: self._entries[worker].heard)
            del self._entries[oldest]


class LocalRoster:
    """The roster of a server whose trainers all live and die with it: a trainer it never heard of is not alive."""

    def __init__(self, lease_seconds: float = LEASE_SECONDS, seconds: Callable[[], float] = time.monotonic) -> None:
        self._attendance = Attendance(lease_seconds, seconds, strangers_lost=True)
        self._seconds = seconds
        self._closed = False
        self.lost = self._attendance.lost
        self.wait = self._attendance.wait

    def standings(self) -> Sequence[Standing]:
        """See :class:`Roster`."""
        return () if self._closed else self._attendance.standings()

    def announce(self, standing: Standing) -> None:
        """See :class:`Announcer`."""
        self._attendance.heard(standing, self._seconds())

    def leave(self, worker: str) -> None:
        """See :class:`Announcer`."""
        self._attendance.left(worker)

    def close(self) -> None:
        """From now on nobody is there."""
        self._closed = True

    # What the exchange tells of the trainers that are connected to it.

    def announced(self, worker: str, standing: bytes) -> None:
        """A trainer says how it stands; what is no standing of its own is left out."""
        try:
            found = Standing.from_bytes(standing)
        except StandingError:
            log.warning("standing_malformed", worker=worker)
            return
        if found.worker == worker:
            self.announce(found)

    def left(self, worker: str) -> None:
        """A trainer ends and wants no more runs."""
        self.leave(worker)

    def trainer_ready(self, worker: str) -> None:
        """A trainer can execute operations: its standings say all that counts."""

    def trainer_gone(self, worker: str) -> None:
        """The connection of a trainer is gone, and the trainer ends with it."""
        self.leave(worker)
