"""How each event changes a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from producers.deciders.context import LIMITS
from producers.deciders.run import parts as p
from producers.deciders.run.parts import Change, Checkpoint, Durable, Interval, Operation
from producers.deciders.run.state import RunState
from schemas import events as e
from schemas.base import Event


def evolve(state: RunState | None, event: Event) -> RunState | None:
    """The state after one more event; an event out of place changes nothing."""
    if isinstance(event, e.RunCreated):
        return _created(event)
    fold = _FOLDS.get(type(event))
    return fold(state, event) if state and fold else state


def _created(event: e.RunCreated) -> RunState:
    start = Durable(event.start.artifact_id, event.start.step) if event.start else Durable()
    return RunState(
        event.run_id,
        event.optimizer.learning_rate,
        event.max_steps,
        max_grad_norm=event.optimizer.max_grad_norm,
        accumulation=event.gradient_accumulation_steps,
        sealed=event.batch_retention == "sealed",
        trainable=event.trainable,
        step=start.step,
        durable=start,
    )


# -- who works on it, and what a change of worker loses or repeats --------------------------------------------------


def _leased(state: RunState, event: e.RunLeaseGranted) -> RunState:
    """In a sealed run nothing is lost: what is not durable is computed again before anything else is reported."""
    replaying = state.sealed and bool(state.undurable)
    return replace(state, lease_epoch=event.lease_epoch, worker=event.worker, replaying=replaying)


def _replayed(state: RunState, event: e.RunReplayed) -> RunState:
    """The run is now what the replay made of it; if that differs, the digests before its last one are not known."""
    moves = [at for at, change in enumerate(state.undurable) if change.kind != p.FORWARD_BACKWARD]
    changes = list(state.undurable)
    for at in moves[:-1] if not event.identical else ():
        changes[at] = replace(changes[at], digest=None)
    for at in moves[-1:]:
        changes[at] = replace(changes[at], digest=event.adapter_digest)
    return replace(state, replaying=False, undurable=tuple(changes))


def _rolled_back(state: RunState, event: e.RunRolledBack) -> RunState:
    """No state rests any more on inputs of the operations that are lost."""
    last = event.lost_after_op_seq
    return replace(
        state,
        generation=event.generation,
        replaying=False,
        step=event.last_durable_step,
        digest=state.durable.digest,
        undurable=tuple(change for change in state.undurable if change.op_seq <= last),
        pending=tuple(op for op in state.pending if op.op_seq <= last),
        intervals=tuple(replace(each, last_op_seq=min(each.last_op_seq, last)) for each in state.intervals),
    )


# -- what is asked of it ---------------------------------------------------------------------------------------------


def _submitted(state: RunState, operation: Operation, **changed: Any) -> RunState:
    return replace(state, last_op_seq=operation.op_seq, pending=(*state.pending, operation), **changed)


def _with_input(state: RunState, event: Any, kind: str) -> RunState:
    operation = Operation(event.operation_id, event.op_seq, kind)
    if event.interval is None:
        return _submitted(state, operation)
    others = tuple(each for each in state.intervals if each.number != event.interval)
    return _submitted(state, operation, intervals=(*others, Interval(event.interval, event.op_seq)))


def _forward_backward_submitted(state: RunState, event: e.ForwardBackwardSubmitted) -> RunState:
    return _with_input(state, event, p.FORWARD_BACKWARD)


def _forward_submitted(state: RunState, event: e.ForwardSubmitted) -> RunState:
    return _with_input(state, event, p.FORWARD)


def _sample_submitted(state: RunState, event: e.SampleSubmitted) -> RunState:
    return _with_input(state, event, p.SAMPLE)


def _optim_step_submitted(state: RunState, event: e.OptimStepSubmitted) -> RunState:
    return _submitted(
        state,
        Operation(
            event.operation_id,
            event.op_seq,
            p.OPTIM_STEP,
            learning_rate=event.learning_rate,
            max_grad_norm=event.max_grad_norm,
        ),
    )


def _save_state_submitted(state: RunState, event: e.SaveStateSubmitted) -> RunState:
    return _submitted(
        state,
        Operation(event.operation_id, event.op_seq, p.SAVE_STATE, name=event.name, optimizer=event.include_optimizer),
    )


def _load_state_submitted(state: RunState, event: e.LoadStateSubmitted) -> RunState:
    return _submitted(
        state,
        Operation(
            event.operation_id,
            event.op_seq,
            p.LOAD_STATE,
            artifact=event.artifact_id,
            optimizer=event.include_optimizer,
            step=event.step,
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


# -- what became of it -----------------------------------------------------------------------------------------------


def _finished(state: RunState, event: Any) -> RunState:
    operation = state.operation(event.operation_id)
    pending = tuple(op for op in state.pending if op.operation_id != event.operation_id)
    finished = (*state.finished, event.operation_id)[-LIMITS.remembered_operations :]
    state = replace(state, pending=pending, finished=finished)
    return state if state.trainable or operation is None else _moved_up(state, operation.op_seq)


def _moved_up(state: RunState, op_seq: int) -> RunState:
    """A run that only samples is as durable after an operation as before it; now and then an interval ends so."""
    if state.pending and op_seq - state.durable.op_seq < LIMITS.sampler_interval:
        return state
    return replace(state, durable=replace(state.durable, op_seq=op_seq))


def _changed(state: RunState, event: Any, step: int, digest: bytes | None = None) -> RunState:
    operation = state.operation(event.operation_id)
    if operation is None:
        return state
    change = Change(operation.op_seq, operation.kind, step, operation.artifact, digest)
    return _finished(replace(state, step=step, undurable=(*state.undurable, change)), event)


def _forward_backward_completed(state: RunState, event: e.ForwardBackwardCompleted) -> RunState:
    return _changed(state, event, state.step)


def _step_applied(state: RunState, event: e.StepApplied) -> RunState:
    return _changed(replace(state, digest=event.adapter_digest), event, event.step, event.adapter_digest)


def _checkpoint_saved(state: RunState, event: e.CheckpointSaved) -> RunState:
    if event.operation_id is not None:
        state = _finished(state, event)
    state = _remembered(state, Checkpoint(event.artifact_id, automatic=event.operation_id is None))
    if not event.includes_optimizer or event.through_op_seq < state.durable.op_seq:
        return state
    return _durable(state, Durable(event.artifact_id, event.step, event.through_op_seq, event.adapter_digest))


def _remembered(state: RunState, checkpoint: Checkpoint) -> RunState:
    checkpoints = (*state.checkpoints, checkpoint)
    kept = checkpoints[-LIMITS.remembered_checkpoints :]
    return replace(state, checkpoints=kept, forgot_checkpoints=state.forgot_checkpoints or len(kept) < len(checkpoints))


def _checkpoint_loaded(state: RunState, event: e.CheckpointLoaded) -> RunState:
    operation = state.operation(event.operation_id)
    state = _changed(replace(state, digest=event.adapter_digest), event, event.step, event.adapter_digest)
    if operation is None or not operation.optimizer:
        return state
    return _durable(state, Durable(event.artifact_id, event.step, operation.op_seq, event.adapter_digest))


def _durable(state: RunState, durable: Durable) -> RunState:
    """Where no step or load came after it, the run's adapter is the one that was saved.

    That may be another than the last step's: what was computed again after it by another plan.
    """
    left = tuple(change for change in state.undurable if change.op_seq > durable.op_seq)
    moved = any(change.kind != p.FORWARD_BACKWARD for change in left)
    return replace(state, durable=durable, undurable=left, digest=state.digest if moved else durable.digest)


# -- what is kept beside the ledger ----------------------------------------------------------------------------------


def _batch_key_destroyed(state: RunState, event: e.BatchKeyDestroyed) -> RunState:
    return replace(state, intervals=tuple(each for each in state.intervals if each.number != event.interval))


def _artifact_deletion_requested(state: RunState, event: e.ArtifactDeletionRequested) -> RunState:
    marked = (
        replace(held, deleting=True) if held.artifact == event.artifact_id else held for held in state.checkpoints
    )
    return replace(state, checkpoints=tuple(marked))


def _artifact_deleted(state: RunState, event: e.ArtifactDeleted) -> RunState:
    return replace(state, checkpoints=tuple(held for held in state.checkpoints if held.artifact != event.artifact_id))


def _export_requested(state: RunState, event: e.ArtifactExportRequested) -> RunState:
    return replace(state, exports=(*state.exports, event.export_id))


def _export_finished(state: RunState, event: Any) -> RunState:
    exports = tuple(export for export in state.exports if export != event.export_id)
    return replace(state, exports=exports, exported=(*state.exported, event.export_id)[-LIMITS.remembered_operations :])


_FOLDS: Mapping[type[Event], Callable[[RunState, Any], RunState]] = {
    e.RunLeaseGranted: _leased,
    e.RunReplayed: _replayed,
    e.RunRolledBack: _rolled_back,
    e.ForwardBackwardSubmitted: _forward_backward_submitted,
    e.ForwardSubmitted: _forward_submitted,
    e.OptimStepSubmitted: _optim_step_submitted,
    e.SampleSubmitted: _sample_submitted,
    e.SaveStateSubmitted: _save_state_submitted,
    e.LoadStateSubmitted: _load_state_submitted,
    e.CancellationRequested: _cancelling,
    e.RunClosed: _closed,
    e.ForwardBackwardCompleted: _forward_backward_completed,
    e.ForwardCompleted: _finished,
    e.StepApplied: _step_applied,
    e.SampleCompleted: _finished,
    e.CheckpointSaved: _checkpoint_saved,
    e.CheckpointLoaded: _checkpoint_loaded,
    e.OperationFailed: _finished,
    e.OperationCancelled: _finished,
    e.BatchKeyDestroyed: _batch_key_destroyed,
    e.ArtifactDeletionRequested: _artifact_deletion_requested,
    e.ArtifactDeleted: _artifact_deleted,
    e.ArtifactExportRequested: _export_requested,
    e.ArtifactExported: _export_finished,
    e.ArtifactExportFailed: _export_finished,
}
EVENTS: frozenset[type[Event]] = frozenset({e.RunCreated, *_FOLDS})
"""What a run's state follows from."""
