"""What may be told of decisions once they are committed: to metrics, traces and logs, never to what decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from producers.engines.port import ACCEPTED
from producers.logs import place_of
from producers.telemetry.traces import Parent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorguard.ledger.envelope import Envelope

    from producers.telemetry.traces import Tracing
    from schemas.base import Event

_log = structlog.get_logger("sequencer")


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision: accepted with its events, rejected with one, refused with none.

    The envelope of a refused command is what it claims to be, and None where it does not even do that.
    """

    envelope: Envelope | None
    outcome: str
    code: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """A micro-batch that was decided and committed between two moments (nanoseconds since the epoch)."""

    decided: Sequence[Decided]
    began: int
    ended: int


class Observer(Protocol):
    """Is told of every micro-batch after its commit, on the sequencer's thread: it must be quick."""

    def committed(self, batch: Round) -> None:
        """This is on the ledger now."""


def tell(observers: Sequence[Observer], told: Round) -> None:
    """Tell all of them; what only watches must not stop the writer."""
    for observer in observers:
        try:
            observer.committed(told)
        except Exception as error:  # noqa: BLE001 -- whatever it is
            _log.error("observer_failed", observer=type(observer).__name__, **place_of(error))


class DecisionLog:
    """A line for each command that was turned away; with ``every``, for each accepted one too."""

    def __init__(self, *, every: bool = False) -> None:
        self._every = every

    def committed(self, batch: Round) -> None:
        """Log a micro-batch."""
        for each in batch.decided:
            if each.envelope is not None and (self._every or each.outcome != ACCEPTED):
                write = _log.debug if each.outcome == ACCEPTED else _log.info
                write("command_decided", **_about(each, each.envelope))


class DecisionSpans:
    """A span for each decision on a command that belongs to a trace, under the span of its submission."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def committed(self, batch: Round) -> None:
        """Record a micro-batch."""
        for each in batch.decided:
            if each.envelope is not None and each.envelope.trace is not None and each.events:
                parent = Parent.of_command(each.envelope.trace, each.envelope.command_id)
                name = f"decide {each.envelope.command_type}"
                attributes = {"tensorguard.outcome": each.outcome, "tensorguard.code": each.code}
                self._tracing.finished(name, parent, batch.began, batch.ended, attributes)


def _about(each: Decided, envelope: Envelope) -> dict[str, str]:
    ids = {"request_id": envelope.correlation, "trace_id": envelope.trace}
    return {
        "command": envelope.command_type if each.events else "unknown",
        "command_id": envelope.command_id.hex(),
        "outcome": each.outcome,
        **({"code": each.code} if each.code else {}),
        **{name: value.hex() for name, value in ids.items() if value is not None},
    }
