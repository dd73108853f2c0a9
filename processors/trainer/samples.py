"""The samples under way: those of all runs on one base model are generated together, in slices between operations.

Each base model has a :class:`Generator`. Consecutive samples of a run are under way at once; their outcomes are
reported in their order, and the run executes nothing else until all have theirs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from processors.trainer.sampling import Generator, frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from processors.trainer.base_model import SharedBase
    from processors.trainer.live import LiveRun
    from processors.trainer.operations import Operations
    from processors.trainer.runs import Pending
    from processors.trainer.sampling import Delta, Finished, Limits, SampleJob
    from schemas.base import Command

SLICE_TOKENS = 64
"""How many tokens go through a model before the worker looks up: a fraction of a second."""


@dataclass(slots=True)
class Sample:
    """A sample under way, and what is to be reported of it once that is known; ``began`` is in seconds."""

    live: LiveRun
    pending: Pending
    began: float
    generator: Generator | None = None
    report: Callable[[Finished], Command] | None = field(default=None, repr=False)
    command: Command | None = None


class Samples:
    """Starts, advances and ends samples. ``stream`` takes frames of what they grew by."""

    def __init__(
        self,
        operations: Operations,
        stream: Callable[[bytes, bytes], None],
        seconds: Callable[[], float],
        limits: Limits,
    ) -> None:
        self._operations = operations
        self._limits = limits
        self._stream = stream
        self._seconds = seconds
        self._generators: dict[SharedBase, Generator] = {}
        self._open: dict[bytes, Sample] = {}
        self._news: dict[bytes, list[Delta]] = defaultdict(list)

    @property
    def busy(self) -> bool:
        """Whether any sample is under way."""
        return bool(self._open)

    def holds(self, live: LiveRun) -> bool:
        """Whether samples of a run are under way: nothing else of it may be executed."""
        return any(sample.live is live for sample in self._open.values())

    @property
    def under_way(self) -> list[bytes]:
        """The samples that are being generated."""
        return [operation_id for operation_id, sample in self._open.items() if sample.command is None]

    def end(self, live: LiveRun, pending: Pending, command: Command) -> None:
        """Let a sample have its outcome without being generated."""
        self._open[pending.operation_id] = Sample(live, pending, self._seconds(), command=command)

    def start(self, live: LiveRun, pending: Pending) -> None:
        """Let a sample join those under way; if it cannot, that is its outcome."""
        sample = Sample(live, pending, self._seconds())
        self._open[pending.operation_id] = sample
        found = self._operations.sample_of(live, pending)
        if isinstance(found, tuple):
            base, job, sample.report = found
            sample.generator = self._generators.setdefault(base, Generator(base, self._limits))
            told = partial(self._hear, pending.operation_id)
            sample.command = self._submitted(sample, job, told)
        else:
            sample.command = found

    def _submitted(self, sample: Sample, job: SampleJob, told: Callable[[Sequence[Delta]], None]) -> Command | None:
        assert sample.generator is not None, "a sample that starts has a generator"  # noqa: S101 -- start gave it one
        try:
            sample.generator.submit(replace(job, on_tokens=told))
        except Exception as error:  # noqa: BLE001 -- an operation's fault must not reach another run
            return self._operations.failed(sample.live, sample.pending, error)
        return None

    def advance(self) -> None:
        """Generate a slice on every base model that has something to generate."""
        for generator in self._generators.values():
            for finished in generator.advance(SLICE_TOKENS):
                sample = self._open[finished.operation_id]
                if finished.error is not None:
                    sample.command = self._operations.failed(sample.live, sample.pending, finished.error)
                elif sample.report is not None:
                    sample.command = sample.report(finished)
        self._tell()

    def cancel_unwanted(self) -> None:
        """End the samples whose cancellation was asked for."""
        for sample in self._open.values():
            if sample.pending.cancelling and sample.command is None:
                self._stop(sample)
                sample.command = self._operations.cancelled(sample.live, sample.pending)

    def drop(self, live: LiveRun) -> None:
        """Forget the samples of a run that is no longer ours."""
        for operation_id, sample in [each for each in self._open.items() if each[1].live is live]:
            self._stop(sample)
            del self._open[operation_id]
            self._news.pop(operation_id, None)
        self._forget_idle()

    def ended(self) -> Iterator[Sample]:
        """The samples that can be reported now: each that has ended, after all of its run before it."""
        blocked: set[int] = set()
        for operation_id, sample in list(self._open.items()):
            if sample.command is None:
                blocked.add(id(sample.live))
            elif id(sample.live) not in blocked:
                del self._open[operation_id]
                yield sample
        self._forget_idle()

    def _stop(self, sample: Sample) -> None:
        if sample.generator is not None:
            sample.generator.cancel(sample.pending.operation_id)

    def _hear(self, operation_id: bytes, deltas: Sequence[Delta]) -> None:
        self._news[operation_id].extend(deltas)

    def _tell(self) -> None:
        for operation_id, deltas in self._news.items():
            self._stream(operation_id, frame(deltas))
        self._news.clear()

    def _forget_idle(self) -> None:
        """Hold no base model in memory for the sake of samples that are over."""
        self._generators = {base: generator for base, generator in self._generators.items() if generator.busy}
