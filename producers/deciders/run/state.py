"""What a run is between two commands, and how each event changes it.

The state is bounded. ``pending`` holds at most ``Limits.unfinished_operations``, oldest first: since operations finish
strictly in order, whatever is not pending is finished or lost. Of a finished operation two things may still matter.
Did it change the adapter, the optimizer or the gradient after the newest durable state (then a new lease would lose
it)? Those stand in ``undurable``, which each durable state empties. And was it finished (so that its cancellation gets
a plain answer)? The newest ``Limits.remembered_operations`` ids stand in ``finished``; an older one is answered with
``unknown_operation``. Redelivered commands need no memory here: the reply to every command id is kept.

A durable state is a checkpoint with its optimizer, saved, or loaded as a whole: a worker that resumed from anything
less would go on from another state than the one that was acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from producers.deciders.context import LIMITS
from schemas import events as e
from schemas.base import Event

FORWARD_BACKWARD, OPTIM_STEP, SAMPLE = "forward_backward", "optim_step", "sample"
SAVE_STATE, LOAD_STATE = "save_state", "load_state"


@dataclass(frozen=True, slots=True)
class Operation:
    """An accepted operation that has no outcome yet, with what its outcome must agree with."""

    operation_id: bytes
    op_seq: int
    kind: str
    cancelling: bool = False
    learning_rate: float | None = None
    name: str | None = None
    artifact: bytes | None = None
    optimizer: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A completed operation that changed the run's state; ``step`` is the run's step after it."""

    op_seq: int
    kind: str
    step: int


@dataclass(frozen=True, slots=True)
class Durable:
    """The newest state that a new lease can resume from; without an artifact it is the fresh adapter."""

    artifact: bytes | None = None
    step: int = 0
    op_seq: int = 0


@dataclass(frozen=True, slots=True)
class RunState:
    """A run. ``lease_epoch`` 0 means that nobody has held it yet."""

    run_id: str
    learning_rate: float
    max_steps: int | None
    closed: bool = False
    generation: int = 0
    lease_epoch: int = 0
    worker: str = ""
    step: int = 0
    last_op_seq: int = 0
    durable: Durable = Durable()
    undurable: tuple[Change, ...] = ()
    pending: tuple[Operation, ...] = ()
    finished: tuple[bytes, ...] = ()

    def operation(self, operation_id: bytes) -> Operation | None:
        """The pending operation of that id."""
        return next((op for op in self.pending if op.operation_id == operation_id), None)

    def has_gradient(self) -> bool:
        """Whether a gradient will be accumulated once all pending operations are done."""
        kinds = [change.kind for change in self.undurable] + [op.kind for op in self.pending]
        moves = [kind for kind in kinds if kind in (FORWARD_BACKWARD, OPTIM_STEP, LOAD_STATE)]
        return bool(moves) and moves[-1] == FORWARD_BACKWARD

    def steps_ahead(self) -> int:
        """The step after all pending optimizer steps."""
        return self.step + sum(op.kind == OPTIM_STEP for op in self.pending)


def evolve(state: RunState | None, event: Event) -> RunState | None:
    """The state after one more event; an event out of place changes nothing."""
    if isinstance(event, e.RunCreated):
        return RunState(event.run_id, event.optimizer.learning_rate, event.max_steps)
    fold = _FOLDS.get(type(event))
    return fold(state, event) if state and fold else state


def _leased(state: RunState, event: e.RunLeaseGranted) -> RunState:
    return replace(state, lease_epoch=event.lease_epoch, worker=event.worker)


def _rolled_back(state: RunState, event: e.RunRolledBack) -> RunState:
    return replace(
        state,
        generation=event.generation,
        step=event.last_durable_step,
        undurable=tuple(change for change in state.undurable if change.op_seq <= event.lost_after_op_seq),
        pending=tuple(op for op in state.pending if op.op_seq <= event.lost_after_op_seq),
    )


def _submitted(state: RunState, operation: Operation) -> RunState:
    return replace(state, last_op_seq=operation.op_seq, pending=(*state.pending, operation))


def _forward_backward_submitted(state: RunState, event: e.ForwardBackwardSubmitted) -> RunState:
    return _submitted(state, Operation(event.operation_id, event.op_seq, FORWARD_BACKWARD))


def _optim_step_submitted(state: RunState, event: e.OptimStepSubmitted) -> RunState:
    return _submitted(state, Operation(event.operation_id, event.op_seq, OPTIM_STEP, learning_rate=event.learning_rate))


def _sample_submitted(state: RunState, event: e.SampleSubmitted) -> RunState:
    return _submitted(state, Operation(event.operation_id, event.op_seq, SAMPLE))


def _save_state_submitted(state: RunState, event: e.SaveStateSubmitted) -> RunState:
    return _submitted(
        state,
        Operation(event.operation_id, event.op_seq, SAVE_STATE, name=event.name, optimizer=event.include_optimizer),
    )


def _load_state_submitted(state: RunState, event: e.LoadStateSubmitted) -> RunState:
    return _submitted(
        state,
        Operation(
            event.operation_id,
            event.op_seq,
            LOAD_STATE,
            artifact=event.artifact_id,
            optimizer=event.include_optimizer,
        ),
    )


def _cancelling(state: RunState, event: e.CancellationRequested) -> RunState:
    return replace(
        state,
        pending=tuple(
            replace(op, cancelling=True) if op.operation_id == event.operation_id else op for op in state.pending
        ),
    )


def _closed(state: RunState, _event: e.RunClosed) -> RunState:
    return replace(state, closed=True)


def _finished(state: RunState, event: Any) -> RunState:
    pending = tuple(op for op in state.pending if op.operation_id != event.operation_id)
    finished = (*state.finished, event.operation_id)[-LIMITS.remembered_operations :]
    return replace(state, pending=pending, finished=finished)


def _changed(state: RunState, event: Any, step: int) -> RunState:
    operation = state.operation(event.operation_id)
    if operation is None:
        return state
    change = Change(operation.op_seq, operation.kind, step)
    return _finished(replace(state, step=step, undurable=(*state.undurable, change)), event)


def _forward_backward_completed(state: RunState, event: e.ForwardBackwardCompleted) -> RunState:
    return _changed(state, event, state.step)


def _step_applied(state: RunState, event: e.StepApplied) -> RunState:
    return _changed(state, event, event.step)


def _checkpoint_saved(state: RunState, event: e.CheckpointSaved) -> RunState:
    if event.operation_id is not None:
        state = _finished(state, event)
    if not event.includes_optimizer or event.through_op_seq < state.durable.op_seq:
        return state
    return _durable(state, Durable(event.artifact_id, event.step, event.through_op_seq))


def _checkpoint_loaded(state: RunState, event: e.CheckpointLoaded) -> RunState:
    operation = state.operation(event.operation_id)
    state = _changed(state, event, event.step)
    if operation is None or not operation.optimizer:
        return state
    return _durable(state, Durable(event.artifact_id, event.step, operation.op_seq))


def _durable(state: RunState, durable: Durable) -> RunState:
    left = tuple(change for change in state.undurable if change.op_seq > durable.op_seq)
    return replace(state, durable=durable, undurable=left)


_FOLDS: Mapping[type[Event], Callable[[RunState, Any], RunState]] = {
    e.RunLeaseGranted: _leased,
    e.RunRolledBack: _rolled_back,
    e.ForwardBackwardSubmitted: _forward_backward_submitted,
    e.OptimStepSubmitted: _optim_step_submitted,
    e.SampleSubmitted: _sample_submitted,
    e.SaveStateSubmitted: _save_state_submitted,
    e.LoadStateSubmitted: _load_state_submitted,
    e.CancellationRequested: _cancelling,
    e.RunClosed: _closed,
    e.ForwardBackwardCompleted: _forward_backward_completed,
    e.StepApplied: _step_applied,
    e.SampleCompleted: _finished,
    e.CheckpointSaved: _checkpoint_saved,
    e.CheckpointLoaded: _checkpoint_loaded,
    e.OperationFailed: _finished,
    e.OperationCancelled: _finished,
}
