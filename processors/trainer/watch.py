"""What the trainer tells of its work: times, spans and log lines, under the ids of the request that asked for it."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import structlog
from structlog.contextvars import bound_contextvars

from processors.measures import Meter
from producers.telemetry.traces import Parent, Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from processors.trainer.runs import Pending
    from schemas.base import Command

CHECKPOINT, REPLAY = "checkpoint", "replay"
KINDS = {
    "ForwardBackwardSubmitted": "forward_backward",
    "ForwardSubmitted": "forward",
    "OptimStepSubmitted": "optim_step",
    "SampleSubmitted": "sample",
    "SaveStateSubmitted": "save_state",
    "LoadStateSubmitted": "load_state",
}
log = structlog.get_logger(__name__)


class Watch:
    """Follows a worker. ``report`` takes measures once a second, ``levels`` says what the worker holds."""

    def __init__(
        self,
        report: Callable[[bytes], None],
        levels: Callable[[], Mapping[str, float]],
        seconds: Callable[[], float] = time.monotonic,
        tracing: Tracing | None = None,
    ) -> None:
        self._meter = Meter(report, levels, seconds)
        self._seconds = seconds
        self._tracing = tracing or Tracing()
        self.tell = self._meter.tell

    @contextmanager
    def operation(self, pending: Pending, began: float | None = None) -> Iterator[Callable[[Command], None]]:
        """An operation for the length of a block, which says when it is over and what came of it.

        ``began`` is when it began, in seconds, if that was before the block.
        """
        kind, now = kind_of(pending), self._seconds()
        began = now if began is None else began

        def came_of_it(command: Command) -> None:
            took = self._seconds() - began
            self._meter.took(kind, took)
            about = {"kind": kind, "op_seq": pending.op_seq, "outcome": type(command).__name__}
            log.info("operation", **about, ms=round(took * 1000, 1))

        with bound_contextvars(**_ids(pending)), self._span(kind, pending, now - began):
            yield came_of_it

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Work of this name for the length of a block: an automatic checkpoint, or an operation that is done again."""
        began = self._seconds()
        yield
        self._meter.took(name, self._seconds() - began)

    def submission(self, kind: str, command_id: bytes, trace: bytes | None) -> AbstractContextManager[Any]:
        """The submission of an outcome, where it belongs to a trace."""
        return self._tracing.span(f"submit {kind}", command_id=command_id) if trace else nullcontext()

    def _span(self, kind: str, pending: Pending, ago: float) -> AbstractContextManager[Any]:
        if pending.trace is None:
            return nullcontext()
        parent = Parent.of_command(pending.trace, pending.operation_id)
        attributes = {"tensorguard.run_id": pending.submitted.run_id}
        began = time.time_ns() - round(ago * 1e9)
        return self._tracing.span(kind, parent=parent, attributes=attributes, began=began)


def kind_of(pending: Pending) -> str:
    """What clients call an operation."""
    return KINDS[type(pending.submitted).__name__]


def _ids(pending: Pending) -> dict[str, str]:
    """As logs name them; ``request_id`` is the request that submitted the operation."""
    found = {"request_id": pending.correlation, "trace_id": pending.trace, "operation_id": pending.operation_id}
    return {"run_id": pending.submitted.run_id, **{name: value.hex() for name, value in found.items() if value}}
