"""What the worker that holds the lease reports: outcomes, strictly in the order of the operations."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Protocol, TypeVar

from producers.deciders.context import Context, Decision, Rejected
from producers.deciders.run import parts as p
from producers.deciders.run.parts import Operation
from producers.deciders.run.requests import unknown
from producers.deciders.run.state import RunState
from schemas import commands as c
from schemas import events as e
from schemas.base import Command, Event

CANCELLED = "cancelled"
_BOUND_TO_KEY = re.compile(r"([0-9a-f]{64})\b")
_E = TypeVar("_E", bound=Event)


class _Outcome(Protocol):
    @property
    def lease_epoch(self) -> int: ...


def forward_backward(state: RunState, command: c.CompleteForwardBackward, ctx: Context) -> Decision:
    """A gradient was accumulated, one of those that a step takes."""
    operation = _next(state, command, command.operation_id, ctx, p.FORWARD_BACKWARD)
    if isinstance(operation, Rejected):
        return operation
    if state.accumulation is not None and state.accumulated() >= state.accumulation:
        return Rejected("accumulation_full", f"A step of this run takes {state.accumulation} batches, which are there.")
    return (same(command, e.ForwardBackwardCompleted),)


def forward(state: RunState, command: c.CompleteForward, ctx: Context) -> Decision:
    """A batch was evaluated in the state that the run is in."""
    operation = _next(state, command, command.operation_id, ctx, p.FORWARD)
    if isinstance(operation, Rejected):
        return operation
    return _other_step(state, command.step) or (same(command, e.ForwardCompleted),)


def step(state: RunState, command: c.RecordStep, ctx: Context) -> Decision:
    """The gradient was applied: one step more, as it was asked for."""
    operation = _next(state, command, command.operation_id, ctx, p.OPTIM_STEP)
    if isinstance(operation, Rejected):
        return operation
    if command.step != state.step + 1:
        return Rejected("invalid_value", f"The run is at step {state.step}; the next one is {state.step + 1}.")
    if command.learning_rate != (operation.learning_rate or state.learning_rate):
        return Rejected("invalid_value", "The step was asked for at another learning rate.")
    if command.clipped and not (operation.max_grad_norm or state.max_grad_norm):
        return Rejected("invalid_value", "Nobody asked for the gradient to be clipped.")
    return _no_step(state, command.step) or (same(command, e.StepApplied),)


def sample(state: RunState, command: c.CompleteSample, ctx: Context) -> Decision:
    """Completions were sampled from the state that the run is in."""
    operation = _next(state, command, command.operation_id, ctx, p.SAMPLE)
    if isinstance(operation, Rejected):
        return operation
    return _other_step(state, command.step) or (same(command, e.SampleCompleted),)


def checkpoint(state: RunState, command: c.RecordCheckpoint, ctx: Context) -> Decision:
    """A checkpoint is durable: one that an operation named, or the worker's own."""
    refusal = _not_reporting(state, command, ctx)
    if refusal:
        return refusal
    if command.operation_id is not None:
        operation = _next(state, command, command.operation_id, ctx, p.SAVE_STATE)
        if isinstance(operation, Rejected):
            return operation
        if command.includes_optimizer != operation.optimizer:
            return Rejected("invalid_value", "The checkpoint holds other parts of the state than were asked for.")
        if command.name != operation.name:
            return Rejected("invalid_value", "The checkpoint has another name than was asked for.")
    elif command.name is not None:
        return Rejected("invalid_value", "A worker's own checkpoint has no name.")
    return _not_a_state(state, command) or (same(command, e.CheckpointSaved),)


def loaded(state: RunState, command: c.RecordCheckpointLoaded, ctx: Context) -> Decision:
    """A checkpoint replaced the run's state."""
    operation = _next(state, command, command.operation_id, ctx, p.LOAD_STATE)
    if isinstance(operation, Rejected):
        return operation
    if command.artifact_id != operation.artifact:
        return Rejected("invalid_value", "Another checkpoint was asked for.")
    if operation.step not in (None, command.step):
        return Rejected("invalid_value", f"The checkpoint was asked for as that of step {operation.step}.")
    return (same(command, e.CheckpointLoaded),)


def failed(state: RunState, command: c.FailOperation, ctx: Context) -> Decision:
    """An operation ended without effect, or was dropped because its client asked for it."""
    operation = _next(state, command, command.operation_id, ctx)
    if isinstance(operation, Rejected):
        return operation
    if command.code != CANCELLED:
        return (
            e.OperationFailed(command.run_id, command.operation_id, command.lease_epoch, operation.kind, command.code),
        )
    if not operation.cancelling:
        return Rejected("invalid_value", "Nobody asked for this operation's cancellation.")
    return (e.OperationCancelled(command.run_id, command.operation_id, command.lease_epoch, operation.kind),)


def _next(
    state: RunState, command: _Outcome, operation_id: bytes, ctx: Context, kind: str | None = None
) -> Operation | Rejected:
    """The operation whose turn it is, if the command reports on it."""
    refusal = _not_reporting(state, command, ctx)
    if refusal:
        return refusal
    operation = state.operation(operation_id)
    if operation is None:
        return unknown(state, operation_id)
    if kind not in (None, operation.kind):
        return Rejected("wrong_operation_kind", f"The operation is a {operation.kind}.")
    if operation is not state.pending[0]:
        return Rejected("out_of_order", f"Operation {state.pending[0].op_seq} has no outcome yet.")
    return operation


def _not_reporting(state: RunState, command: _Outcome, ctx: Context) -> Rejected | None:
    refusal = not_holding(state, command, ctx)
    if refusal or not state.replaying:
        return refusal
    return Rejected("replaying", "What is not durable must be computed again before anything else is reported.")


def not_holding(state: RunState, command: _Outcome, ctx: Context) -> Rejected | None:
    """Whether a report comes from another than the worker that holds the run."""
    if state.lease_epoch == 0:
        return Rejected("no_lease", "Nobody holds this run.")
    if command.lease_epoch != state.lease_epoch:
        return Rejected("stale_lease", f"The run's lease is number {state.lease_epoch}.")
    return _foreign_worker(state.worker, ctx.key_id)


def _foreign_worker(worker: str, key_id: bytes) -> Rejected | None:
    """A lease whose worker's name begins with a key id in hex is bound to that key."""
    bound = _BOUND_TO_KEY.match(worker)
    if bound is None or bound[1] == key_id.hex():
        return None
    return Rejected("wrong_worker", "The lease is bound to another worker's key.")


def _no_step(state: RunState, step: int) -> Rejected | None:
    """Whether there was no gradient to apply, not all of it, or no step left."""
    batches = state.accumulated()
    if not batches:
        return Rejected("nothing_to_apply", "No gradient is accumulated.")
    if state.accumulation not in (None, batches):
        return Rejected(
            "accumulation_incomplete", f"A step of this run takes {state.accumulation} batches, not {batches}."
        )
    if state.max_steps is not None and step > state.max_steps:
        return Rejected("max_steps_reached", f"The run was created with {state.max_steps} steps.")
    return None


def _other_step(state: RunState, step: int) -> Rejected | None:
    if step == state.step:
        return None
    return Rejected("invalid_value", f"The run is at step {state.step}; the outcome names another one.")


def _not_a_state(state: RunState, command: c.RecordCheckpoint) -> Rejected | None:
    """Whether the checkpoint is of a state between two steps that the run was in after its newest durable one."""
    through = command.through_op_seq
    if through < state.durable.op_seq:
        return Rejected("out_of_order", "A newer state of the run is durable.")
    if through > _last_finished(state):
        return Rejected("out_of_order", "The checkpoint covers operations without an outcome.")
    covered = [change for change in state.undurable if change.op_seq <= through]
    if covered and covered[-1].kind == p.FORWARD_BACKWARD:
        return Rejected("invalid_value", "A checkpoint holds no gradient: it reaches to a step or a load.")
    if command.step != (covered[-1].step if covered else state.durable.step):
        return Rejected("invalid_value", "The checkpoint is of another step than the run was at.")
    if (covered[-1].digest if covered else state.durable.digest) not in (None, command.adapter_digest):
        return Rejected("invalid_value", "The checkpoint's adapter is not the one that the run had then.")
    return None


def _last_finished(state: RunState) -> int:
    return state.pending[0].op_seq - 1 if state.pending else state.last_op_seq


def same(command: Command, event: type[_E]) -> _E:
    """The event that says what the command says: their fields have the same names."""
    return event(**{f.name: getattr(command, f.name) for f in fields(event)})
