"""What a worker needs to know of each run, folded from the ledger. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas import events as e

if TYPE_CHECKING:
    from processors.base import Recorded
    from schemas.base import Event

SEALED = "sealed"


@dataclass(slots=True)
class Pending:
    """A submitted operation without an outcome; ``correlation`` and ``trace`` go into its outcome."""

    submitted: Any
    correlation: bytes | None
    trace: bytes | None
    cancelling: bool = False

    @property
    def operation_id(self) -> bytes:
        """Its id."""
        return bytes(self.submitted.operation_id)

    @property
    def op_seq(self) -> int:
        """Its place in the run."""
        return int(self.submitted.op_seq)


@dataclass(frozen=True, slots=True)
class Change:
    """A completed operation that changed a run's state; ``digest`` is the adapter's after it, if that is recorded."""

    submitted: Any
    digest: bytes | None

    @property
    def op_seq(self) -> int:
        """Its place in the run."""
        return int(self.submitted.op_seq)


@dataclass(slots=True)
class RunView:
    """A run as its worker sees it.

    ``durable`` is the artifact that a new lease would resume from (None: the fresh adapter), ``undurable`` what came
    after it in a run whose inputs are kept, oldest first: what a new worker does again. The ledger bounds both
    ``pending`` and that.
    """

    chain: str
    created: e.RunCreated
    lease: e.RunLeaseGranted | None = None
    pending: dict[bytes, Pending] = field(default_factory=dict)
    closed: bool = False
    durable: bytes | None = None
    durable_op_seq: int = 0
    undurable: list[Change] = field(default_factory=list)

    @property
    def sealed(self) -> bool:
        """Whether its inputs are kept until nothing can need them."""
        return self.created.batch_retention == SEALED

    @property
    def bare(self) -> bool:
        """Whether it only samples from its base model as that was registered."""
        run = self.created
        return not run.trainable and run.lora is None and run.start is None

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.created.run_id

    @property
    def lease_epoch(self) -> int:
        """The number of the lease; 0 if nobody has held it."""
        return self.lease.lease_epoch if self.lease else 0


class Runs:
    """All runs of all chains, and what is known of artifacts."""

    def __init__(self) -> None:
        self.views: dict[tuple[str, str], RunView] = {}
        self.manifests: dict[tuple[str, bytes], bytes] = {}
        self.artifact_keys: dict[bytes, bytes] = {}
        self.dtypes: dict[tuple[str, bytes], str] = {}

    def fold(self, recorded: Recorded) -> RunView | None:
        """Take one record; the run that it is about, if it is about one."""
        event: Any = recorded.event
        if isinstance(event, e.RunCreated):
            start = event.start.artifact_id if event.start else None
            view = self.views[recorded.chain, event.run_id] = RunView(recorded.chain, event, durable=start)
            return view
        if isinstance(event, e.ArtifactKeyPublished):
            self.artifact_keys[event.key_id] = event.public_key
        if isinstance(event, e.ModelRegistered):
            self.dtypes[event.name, event.manifest_digest] = event.dtype
        if isinstance(event, e.CheckpointSaved):
            self.manifests[recorded.chain, event.artifact_id] = event.manifest_digest
        found = self.views.get((recorded.chain, getattr(event, "run_id", "")))
        fold = _FOLDS.get(type(event))
        if found and fold:
            fold(found, event, recorded)
        return found


def _leased(view: RunView, event: e.RunLeaseGranted, _recorded: Recorded) -> None:
    view.lease = event


def _rolled_back(view: RunView, event: e.RunRolledBack, _recorded: Recorded) -> None:
    view.pending = {key: op for key, op in view.pending.items() if op.op_seq > event.lost_through_op_seq}
    view.undurable = [change for change in view.undurable if change.op_seq <= event.lost_after_op_seq]


def _submitted(view: RunView, event: Any, recorded: Recorded) -> None:
    view.pending[event.operation_id] = Pending(event, recorded.meta.correlation, recorded.meta.trace)


def _cancelling(view: RunView, event: e.CancellationRequested, _recorded: Recorded) -> None:
    if operation := view.pending.get(event.operation_id):
        operation.cancelling = True


def _finished(view: RunView, event: Any, _recorded: Recorded) -> None:
    view.pending.pop(event.operation_id, None)


def _changed(view: RunView, event: Any, _recorded: Recorded) -> None:
    operation = view.pending.pop(event.operation_id, None)
    if operation is not None and view.sealed:
        view.undurable.append(Change(operation.submitted, getattr(event, "adapter_digest", None)))


def _now_durable(view: RunView, artifact: bytes, op_seq: int) -> None:
    view.durable, view.durable_op_seq = artifact, op_seq
    view.undurable = [change for change in view.undurable if change.op_seq > op_seq]


def _saved(view: RunView, event: e.CheckpointSaved, recorded: Recorded) -> None:
    if event.operation_id is not None:
        _finished(view, event, recorded)
    if event.includes_optimizer and event.through_op_seq >= view.durable_op_seq:
        _now_durable(view, event.artifact_id, event.through_op_seq)


def _loaded(view: RunView, event: e.CheckpointLoaded, recorded: Recorded) -> None:
    operation = view.pending.get(event.operation_id)
    _changed(view, event, recorded)
    if operation is not None and operation.submitted.include_optimizer:
        _now_durable(view, event.artifact_id, operation.op_seq)


def _closed(view: RunView, _event: e.RunClosed, _recorded: Recorded) -> None:
    view.closed = True


_FOLDS: Mapping[type[Event], Callable[[RunView, Any, Recorded], None]] = {
    e.RunLeaseGranted: _leased,
    e.RunRolledBack: _rolled_back,
    e.ForwardBackwardSubmitted: _submitted,
    e.ForwardSubmitted: _submitted,
    e.OptimStepSubmitted: _submitted,
    e.SampleSubmitted: _submitted,
    e.SaveStateSubmitted: _submitted,
    e.LoadStateSubmitted: _submitted,
    e.CancellationRequested: _cancelling,
    e.ForwardBackwardCompleted: _changed,
    e.ForwardCompleted: _finished,
    e.StepApplied: _changed,
    e.SampleCompleted: _finished,
    e.CheckpointSaved: _saved,
    e.CheckpointLoaded: _loaded,
    e.OperationFailed: _finished,
    e.OperationCancelled: _finished,
    e.RunClosed: _closed,
}
