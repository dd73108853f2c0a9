"""Replay: what a lost worker had done after the run's newest durable state, done again and held to its record.

The operations are executed one per turn, so that a long replay keeps no other run from its work. What failed for a
reason that may pass (no memory, a file system that does not answer) is begun again a few times before it is given up:
giving up loses work for good.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import structlog

from processors.exchange.errors import ExchangeAwayError
from processors.trainer.failures import failure_code, place_of
from schemas import commands as c
from schemas import events as e

if TYPE_CHECKING:
    from processors.trainer.live import LiveRun
    from processors.trainer.operations import Operations
    from processors.trainer.runs import Change
    from schemas.base import Command
    from schemas.types import ExecutionPlan

PAUSES = (1.0, 5.0, 25.0)
"""Seconds before each further try."""
PASSING = frozenset({"out_of_memory", "storage_full", "internal_error", "model_changed"})
log = structlog.get_logger(__name__)


class Replay:
    """The state-changing operations of a run that are to be done again, oldest first; not before ``due`` (seconds)."""

    def __init__(self, changes: list[Change], *, due: float = 0.0, tries: int = 0) -> None:
        self.due = due
        self._tries = tries
        self._changes = changes
        self._left = deque(changes)
        self._through = changes[-1].op_seq
        self._steps = 0
        self._differing: int | None = None
        self._plan: ExecutionPlan | None = None

    @property
    def next(self) -> bytes:
        """The id of the operation that is done again next."""
        return bytes(self._left[0].submitted.operation_id)

    def advance(self, live: LiveRun, operations: Operations) -> Command | None:
        """Do the next operation again; what to report once that was the last, or cannot be done.

        Raises:
            ExchangeAwayError: the server is gone.
        """
        try:
            self._again(live, self._left.popleft(), operations)
        except ExchangeAwayError:
            raise
        except Exception as error:  # noqa: BLE001 -- whatever it is, the run then stands at its durable state
            code = failure_code(error)
            return self.ended(live, code, at=place_of(error))
        return None if self._left else self._report(live)

    def ended(self, live: LiveRun, code: str, **about: str) -> Command:
        """What to report of a replay that cannot go on."""
        log.warning("replay_failed", run_id=live.view.run_id, code=code, **about)
        return c.FailReplay(live.view.run_id, live.lease_epoch, code)

    def later(self, code: str, now: float) -> Replay | None:
        """The same from its beginning after a pause, if what it failed for may pass and it was not tried too often."""
        if code not in PASSING or self._tries >= len(PAUSES):
            return None
        return Replay(self._changes, due=now + PAUSES[self._tries], tries=self._tries + 1)

    def _again(self, live: LiveRun, change: Change, operations: Operations) -> None:
        match change.submitted:
            case e.ForwardBackwardSubmitted() as event:
                operations.accumulate(live, event)
            case e.OptimStepSubmitted() as event:
                adapter, _, plan = operations.step(live, event)
                self._steps += 1
                self._compare(adapter.step, adapter.digest(), change, plan)
            case e.LoadStateSubmitted() as event:
                operations.load(live, event)

    def _compare(self, step: int, digest: bytes, change: Change, plan: ExecutionPlan) -> None:
        if digest != change.digest and self._differing is None:
            self._differing, self._plan = step, plan

    def _report(self, live: LiveRun) -> Command:
        adapter = live.adapter
        digest = adapter.digest() if adapter is not None else b""
        same = self._differing is None
        log.info("run_replayed", run_id=live.view.run_id, steps=self._steps, identical=same)
        return c.RecordReplay(
            live.view.run_id,
            live.lease_epoch,
            self._through,
            self._steps,
            digest,
            same,
            self._differing,
            self._plan,
        )
