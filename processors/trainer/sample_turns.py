"""When samples start, how much of the time they have beside other operations, and which of them must be alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.trainer.failures import WORKER_KILLED, failure
from schemas import events as e

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from processors.trainer.live import LiveRun
    from processors.trainer.runs import Pending
    from processors.trainer.samples import Samples
    from processors.trainer.suspects import Suspects
    from processors.trainer.watch import Watch
    from schemas.base import Command


class SampleTurns:
    """The samples' part of a worker's turns. ``report`` sends an outcome, ``started`` hears whose sample has begun."""

    def __init__(
        self,
        samples: Samples,
        runs: Collection[LiveRun],
        suspects: Suspects,
        watch: Watch,
        report: Callable[[LiveRun, Pending, Command], None],
        started: Callable[[LiveRun], None],
        seconds: Callable[[], float],
    ) -> None:
        self._samples = samples
        self._runs = runs
        self._suspects = suspects
        self._watch = watch
        self._report = report
        self._started = started
        self._seconds = seconds
        self._owed = 0.0

    def concerns(self, live: LiveRun) -> bool:
        """Whether a run's turn is the samples' affair: one of its own is under way, or is the next to be."""
        pending = live.next_operation()
        return self._samples.holds(live) or (pending is not None and _is_sample(pending))

    @property
    def owed(self) -> bool:
        """Whether samples are under way that had less of the time than other operations."""
        return self._samples.busy and self._owed > 0

    def owe(self, seconds: float) -> None:
        """Another operation took so long."""
        self._owed = seconds

    def start(self) -> None:
        """Let every sample whose turn it is join those under way, and end those that nobody wants any more."""
        for live in self._runs:
            while (pending := live.next_operation()) and _is_sample(pending) and self._may_start(pending):
                live.executed = pending.op_seq
                self._start(live, pending)
                self._started(live)
        self._samples.cancel_unwanted()
        self._report_ended()

    def advance(self) -> None:
        """Generate a slice of the samples under way."""
        began = self._seconds()
        with self._suspects.watching(*self._samples.under_way):
            self._samples.advance()
        self._owed -= self._seconds() - began
        self._report_ended()

    def _may_start(self, pending: Pending) -> bool:
        """Whether a sample can join those under way: none does that has to be alone, and none joins such a one.

        Those that have to be alone go first, or those that need not would keep them waiting for ever.
        """
        if self._suspects.alone(pending.operation_id):
            return not self._samples.under_way
        return not self._suspects.any_alone or not any(map(self._suspects.alone, self._now_and_next()))

    def _now_and_next(self) -> Iterator[bytes]:
        yield from self._samples.under_way
        for live in self._runs:
            if (pending := live.next_operation()) is not None:
                yield pending.operation_id

    def _start(self, live: LiveRun, pending: Pending) -> None:
        if self._suspects.condemned(pending.operation_id):
            self._samples.end(live, pending, failure(live, pending, WORKER_KILLED))
            return
        with self._suspects.watching(pending.operation_id):
            self._samples.start(live, pending)

    def _report_ended(self) -> None:
        for sample in self._samples.ended():
            if sample.command is not None:
                with self._watch.operation(sample.pending, sample.began) as came_of_it:
                    came_of_it(sample.command)
                    self._report(sample.live, sample.pending, sample.command)
                self._suspects.acquit(sample.pending.operation_id)


def _is_sample(pending: Pending) -> bool:
    return isinstance(pending.submitted, e.SampleSubmitted)
