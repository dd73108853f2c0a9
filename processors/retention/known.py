"""What the ledger says of inputs and checkpoints: which may go, and which may still be needed. Pure.

Runs are folded by the deciders' own fold, so that nothing is taken for superfluous that a decision rests on. All that
is concluded here stays true: an interval that is over stays over, a closed run stays closed, an outcome is final.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from producers.deciders.run import RunState, evolve
from producers.deciders.run.parts import FORWARD_BACKWARD
from schemas import events as e
from schemas.base import Event
from schemas.events import run as of_runs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from processors.base import Recorded

RUN_EVENTS: frozenset[type[Event]] = frozenset(
    each for each in vars(of_runs).values() if isinstance(each, type) and issubclass(each, Event) and each is not Event
)
EVENTS = RUN_EVENTS | {e.PackageRequested, e.CommandRejected}
REPORTS = frozenset({"RecordBatchKeyDestroyed", "RecordArtifactDeleted"})
EXPIRED = "expired"
Key = tuple[str, str]
"""A chain and a run of it."""


@dataclass(slots=True)
class Known:
    """One run: its state, the operations with an input by interval, and the checkpoints that are to be deleted.

    ``exports`` are those that were asked for, by checkpoint. ``expired`` counts reports of what was destroyed that
    nobody decided in time.
    """

    state: RunState
    created: bytes
    inputs: dict[int, dict[bytes, int]] = field(default_factory=dict)
    unwanted: set[bytes] = field(default_factory=set)
    exports: dict[bytes, list[bytes]] = field(default_factory=dict)
    expired: int = 0

    def needs(self, interval: int, operation_id: bytes) -> bool:
        """Whether an accepted operation's input is still to be read: for its turn, or to be computed again."""
        if self.state.operation(operation_id) is not None:
            return True
        op_seq = self.inputs.get(interval, {}).get(operation_id)
        return any(change.op_seq == op_seq for change in self.state.undurable if change.kind == FORWARD_BACKWARD)

    def exporting(self, artifact: bytes) -> bool:
        """Whether an export of a checkpoint is still being made."""
        return any(export in self.state.exports for export in self.exports.get(artifact, ()))

    def is_over(self, interval: int) -> bool:
        """Whether no more inputs can be accepted in an interval."""
        return self.state.idle() or interval < self.state.durable.op_seq

    def covered(self) -> list[int]:
        """Intervals on the ledger whose keys may go."""
        return [each.number for each in self.state.intervals if self.state.covered(each)]

    def on_ledger(self, interval: int) -> bool:
        """Whether inputs were accepted in an interval, and its key's end is not recorded yet."""
        return any(each.number == interval for each in self.state.intervals)


class Runs:
    """All runs of all chains."""

    def __init__(self) -> None:
        self._known: dict[Key, Known] = {}
        self._referenced: set[tuple[str, bytes]] = set()

    def fold(self, recorded: Recorded) -> Key | None:
        """Take one record; the run that it is about."""
        event: Any = recorded.event
        if isinstance(event, e.CommandRejected):
            return self._refused(recorded.chain, event)
        key = (recorded.chain, event.run_id)
        self._refer(recorded.chain, event)
        if isinstance(event, e.PackageRequested):
            return None
        known = self._known.get(key)
        state = evolve(known.state if known else None, event)
        if state is None:
            return None
        if known is None:
            known = self._known[key] = Known(state, recorded.meta.event_id)
        known.state = state
        _fold_beside(known, event)
        return key

    def get(self, chain: str, run_id: str) -> Known | None:
        """A run, if the ledger has it."""
        return self._known.get((chain, run_id))

    def of(self, key: Key) -> Known:
        """A run that the ledger has."""
        return self._known[key]

    def keys(self) -> Iterable[Key]:
        """All runs."""
        return self._known.keys()

    def deletable(self, key: Key, keep: int) -> list[bytes]:
        """Checkpoints of a run that may go: those asked to be deleted, and automatic ones beyond the newest ``keep``.

        None of them is one that a run of the chain rests on or that is being exported; an automatic one was never
        loaded, packaged or exported by name either.
        """
        chain, known = key[0], self._known[key]
        automatic = [held.artifact for held in known.state.checkpoints if held.automatic and not held.deleting]
        superseded = (each for each in automatic[:-keep] if (chain, each) not in self._referenced)
        due = (each for each in (*sorted(known.unwanted), *superseded) if not known.exporting(each))
        return [each for each in due if not self._rested_on(chain, each)]

    def _rested_on(self, chain: str, artifact: bytes) -> bool:
        return any(known.state.rests_on(artifact) for (of, _), known in self._known.items() if of == chain)

    def _refused(self, chain: str, event: e.CommandRejected) -> Key | None:
        key = (chain, event.stream.removeprefix("run/"))
        known = self._known.get(key)
        if known is None or event.command_type not in REPORTS or event.code != EXPIRED:
            return None
        known.expired += 1
        return key

    def _refer(self, chain: str, event: Any) -> None:
        if isinstance(event, e.LoadStateSubmitted | e.PackageRequested | e.ArtifactExportRequested):
            self._referenced.add((chain, event.artifact_id))
        elif isinstance(event, e.RunCreated) and event.start is not None:
            self._referenced.add((chain, event.start.artifact_id))


def _fold_beside(known: Known, event: Any) -> None:
    interval = getattr(event, "interval", None)
    if isinstance(event, e.BatchKeyDestroyed):
        known.inputs.pop(event.interval, None)
    elif interval is not None:
        known.inputs.setdefault(interval, {})[event.operation_id] = event.op_seq
    elif isinstance(event, e.ArtifactExportRequested):
        known.exports.setdefault(event.artifact_id, []).append(event.export_id)
    elif isinstance(event, e.ArtifactDeletionRequested):
        known.unwanted.add(event.artifact_id)
    elif isinstance(event, e.ArtifactDeleted):
        known.unwanted.discard(event.artifact_id)
        known.exports.pop(event.artifact_id, None)
