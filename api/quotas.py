"""What one tenant may have under way at once, held at the doors, so that nobody takes all of a server.

A request that goes over is answered with ``quota_exceeded`` and how long to wait; nothing of it is on the ledger. The
deciders' own bounds, which a replay checks again, are those of a single run.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.errors import ApiError
from producers.engines.port import ACCEPTED, REJECTED, Reply
from schemas import commands as c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from producers.settings import Settings
    from projections.queries import Views
    from schemas.base import Command

OPERATIONS = (
    c.SubmitForwardBackward,
    c.SubmitForward,
    c.SubmitOptimStep,
    c.SubmitSample,
    c.SubmitSaveState,
    c.SubmitLoadState,
)
CODE, PENDING = "quota_exceeded", "pending"
SOON, LATER = 2, 60
"""Seconds to wait: for operations, which end by themselves, and for runs, which somebody must close."""
LOOK_SECONDS = 1.0
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """Per tenant: runs that are not closed, operations without an outcome, bytes that came with them, rejections."""

    runs: int = 256
    queued: int = 1024
    bytes_in_flight: int = 256 << 20
    rejections_per_minute: int = 300

    @classmethod
    def of(cls, settings: Settings) -> QuotaLimits:
        """The limits that an operator has set."""
        return cls(
            settings.max_runs_per_tenant,
            settings.max_queued_per_tenant,
            settings.max_bytes_in_flight_per_tenant,
            settings.max_rejections_per_minute,
        )


@dataclass(frozen=True, slots=True)
class TurnedAway(Reply):
    """The answer to a command that was not sent: it reads as a rejection, and nothing of it is on the ledger."""

    retry_after: int = SOON


class Quotas:
    """Every tenant's counts. Any thread may call. ``clock`` gives seconds that only grow.

    Of operations that came through other processes, or before a restart, their number counts, as the views have it,
    and not their bytes. Rejections are those of commands that came through this process.
    """

    def __init__(self, views: Views, limits: QuotaLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._views = views
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._tenants: dict[str, _Tenant] = {}

    @contextmanager
    def room(self, tenant: str, command_id: bytes, command: Command, size: int) -> Iterator[Callable[[Reply], None]]:
        """Room for a command of so many bytes while it is decided, and while it waits; it is to be told the reply.

        Raises:
            ApiError: quota_exceeded.
        """
        with self.rejections(tenant) as told:
            of = self._of(tenant)
            replies: list[Reply] = []
            of.take(command_id.hex(), command, size)
            try:
                yield replies.append
            finally:
                accepted = any(reply.outcome == ACCEPTED for reply in replies)
                of.settle(command_id.hex(), command, accepted=accepted)
            for reply in replies:
                told(reply)

    def admit(self, tenant: str, command_id: bytes, command: Command, size: int, decide: Callable[[], Reply]) -> Reply:
        """What ``decide`` replies, if there is room; else that it was turned away."""
        try:
            with self.room(tenant, command_id, command, size) as told:
                reply = decide()
                told(reply)
        except ApiError as over:
            if over.code != CODE:
                raise
            wait = over.extras["retry_after"]
            return TurnedAway(command_id, REJECTED, tenant, None, None, CODE, over.detail, b"", retry_after=wait)
        return reply

    @contextmanager
    def rejections(self, tenant: str) -> Iterator[Callable[[Reply], None]]:
        """Room for one more rejection, which is a record of the ledger too; it is to be told the reply.

        Raises:
            ApiError: quota_exceeded.
        """
        bucket = self._of(tenant).rejections
        bucket.check(self._clock())
        yield lambda reply: bucket.spend(self._clock()) if reply.outcome == REJECTED else None

    def _of(self, tenant: str) -> _Tenant:
        with self._lock:
            if tenant not in self._tenants:
                self._tenants[tenant] = _Tenant(tenant, self._views, self._limits, self._clock)
            return self._tenants[tenant]


class _Tenant:
    """What one tenant has under way.

    ``_waiting`` may still hold what has finished meanwhile, and lack what came through other processes: the views are
    asked once a second at most, and where that would decide.
    """

    def __init__(self, tenant: str, views: Views, limits: QuotaLimits, clock: Callable[[], float]) -> None:
        self._tenant, self._views, self._limits = tenant, views, limits
        self._lock = threading.Lock()
        self._deciding: dict[str, int] = {}
        self._clock = clock
        self._looked_at = clock()
        self._waiting: dict[str, int] = dict.fromkeys(views.pending_ids(tenant), 0)
        self._new_runs: set[str] = set()
        self.rejections = _Bucket(limits.rejections_per_minute, self._looked_at)

    def take(self, command_id: str, command: Command, size: int) -> None:
        with self._lock:
            if isinstance(command, c.CreateRun):
                self._check_runs()
                self._new_runs.add(command.run_id)
            elif isinstance(command, OPERATIONS):
                self._check_operations(size)
                self._deciding[command_id] = size

    def settle(self, command_id: str, command: Command, *, accepted: bool) -> None:
        with self._lock:
            size = self._deciding.pop(command_id, None)
            if accepted and size is not None:
                self._waiting[command_id] = size
            if not accepted and isinstance(command, c.CreateRun):
                self._new_runs.discard(command.run_id)

    def _check_runs(self) -> None:
        self._new_runs = {run for run in self._new_runs if self._views.run(self._tenant, run) is None}
        found = self._views.open_runs(self._tenant) + len(self._new_runs)
        if found >= self._limits.runs:
            raise _exceeded(f"The tenant has {found} open training clients; close one first.", LATER)

    def _check_operations(self, size: int) -> None:
        if self._full(size) or self._clock() - self._looked_at >= LOOK_SECONDS:
            self._waiting = self._still_waiting()
            self._looked_at = self._clock()
        if excess := self._full(size):
            raise _exceeded(excess, SOON)

    def _full(self, size: int) -> str | None:
        queued = len(self._deciding) + len(self._waiting)
        held = sum(self._deciding.values()) + sum(self._waiting.values())
        if queued >= self._limits.queued:
            return f"{queued} operations of the tenant wait; at most {self._limits.queued} may."
        if held and held + size > self._limits.bytes_in_flight:
            return f"{held} bytes of the tenant wait; at most {self._limits.bytes_in_flight} may."
        return None

    def _still_waiting(self) -> dict[str, int]:
        pending = self._views.pending_ids(self._tenant) - self._deciding.keys()
        not_yet_seen = {each for each in self._waiting.keys() - pending if not self._finished(each)}
        return {each: self._waiting.get(each, 0) for each in pending | not_yet_seen}

    def _finished(self, operation_id: str) -> bool:
        operation = self._views.operation(self._tenant, operation_id)
        return operation is not None and operation.status != PENDING


class _Bucket:
    """A token bucket: so many a minute, and as many at once after a quiet minute."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._rate, self._most = per_minute / _MINUTE, float(per_minute)
        self._left, self._at = self._most, now
        self._lock = threading.Lock()

    def check(self, now: float) -> None:
        with self._lock:
            self._refill(now)
            if self._left < 1:
                wait = math.ceil((1 - self._left) / self._rate)
                raise _exceeded("Too many of the tenant's commands were rejected in the last minute.", wait)

    def spend(self, now: float) -> None:
        with self._lock:
            self._refill(now)
            self._left = max(0.0, self._left - 1)

    def _refill(self, now: float) -> None:
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now


def _exceeded(detail: str, retry_after: int) -> ApiError:
    return ApiError(CODE, detail, retry_after=retry_after)
