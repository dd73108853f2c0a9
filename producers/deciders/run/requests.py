"""What clients ask of a run: start it, queue operations, drop one, close it."""

from __future__ import annotations

from typing import Any

from producers.deciders.context import Context, Decision, Rejected
from producers.deciders.run import inputs
from producers.deciders.run.state import RunState
from schemas import commands as c
from schemas import events as e
from schemas.codec import field_names

Submit = inputs.Input | c.SubmitOptimStep | c.SubmitSaveState | c.SubmitLoadState


def create(state: RunState | None, command: c.CreateRun) -> Decision:
    """Start a run under an id that is free."""
    if state is not None:
        return Rejected("already_exists", "A run of this id exists.")
    return (e.RunCreated(**{name: getattr(command, name) for name in field_names(command)}),)


def forward_backward(state: RunState, command: c.SubmitForwardBackward, ctx: Context) -> Decision:
    """Queue a batch, if the step that it is for has room."""
    return (
        _refusal(state, command, ctx)
        or _accumulated(state)
        or inputs.misplaced(state, command.interval, ctx)
        or _queued(state, command, ctx, e.ForwardBackwardSubmitted)
    )


def forward(state: RunState, command: c.SubmitForward, ctx: Context) -> Decision:
    """Queue a batch to be evaluated."""
    return (
        _refusal(state, command, ctx)
        or inputs.misplaced(state, command.interval, ctx)
        or _queued(state, command, ctx, e.ForwardSubmitted)
    )


def optim_step(state: RunState, command: c.SubmitOptimStep, ctx: Context) -> Decision:
    """Queue an optimizer step, if its gradient will be there and the run has steps left."""
    return (
        _refusal(state, command, ctx)
        or _no_steps_left(state)
        or _no_gradient(state)
        or _queued(state, command, ctx, e.OptimStepSubmitted)
    )


def sample(state: RunState, command: c.SubmitSample, ctx: Context) -> Decision:
    """Queue prompts."""
    return (
        _refusal(state, command, ctx)
        or inputs.misplaced(state, command.interval, ctx)
        or _queued(state, command, ctx, e.SampleSubmitted)
    )


def save_state(state: RunState, command: c.SubmitSaveState, ctx: Context) -> Decision:
    """Queue a named checkpoint."""
    return _refusal(state, command, ctx) or _queued(state, command, ctx, e.SaveStateSubmitted)


def load_state(state: RunState, command: c.SubmitLoadState, ctx: Context) -> Decision:
    """Queue the replacement of the run's state, by a checkpoint that is not about to be deleted."""
    return (
        _refusal(state, command, ctx)
        or _deleting(state, command.artifact_id)
        or _queued(state, command, ctx, e.LoadStateSubmitted)
    )


def cancel(state: RunState, command: c.RequestCancellation, _ctx: Context) -> Decision:
    """Mark an operation that has no outcome yet; the worker drops it, or stops it if it is a sample."""
    operation = state.operation(command.operation_id)
    if operation is None:
        return unknown(state, command.operation_id)
    if operation.cancelling:
        return Rejected("already_exists", "The operation's cancellation was requested before.")
    return (e.CancellationRequested(command.run_id, command.operation_id),)


def close(state: RunState, command: c.CloseRun, _ctx: Context) -> Decision:
    """Take no more operations; those that are queued finish."""
    if state.closed:
        return Rejected("run_closed", "The run was closed before.")
    return (e.RunClosed(command.run_id),)


def unknown(state: RunState, operation_id: bytes) -> Rejected:
    """Why an operation is not pending."""
    if operation_id in state.finished:
        return Rejected("operation_finished", "The operation has its outcome.")
    return Rejected("unknown_operation", "The operation was never submitted, is lost, or finished long ago.")


def _queued(state: RunState, command: Submit, ctx: Context, event: type[Any]) -> Decision:
    """The event that says what the command asks for, with the operation's id and its place in the run."""
    said = {name: getattr(command, name) for name in field_names(command) if name != "generation"}
    return (event(operation_id=ctx.command_id, op_seq=state.last_op_seq + 1, **said),)


def _refusal(state: RunState, command: Submit, ctx: Context) -> Rejected | None:
    return (
        _closed(state)
        or _only_samples(state, command)
        or _rolled_back(state, command.generation)
        or _over_quota(state, ctx)
        or _repeated(state, ctx.command_id)
    )


def _closed(state: RunState) -> Rejected | None:
    return Rejected("run_closed", "The run is closed; create another one.") if state.closed else None


def _only_samples(state: RunState, command: Submit) -> Rejected | None:
    if state.trainable or isinstance(command, c.SubmitSample):
        return None
    return Rejected("sampling_only", "The run was created to sample only.")


def _rolled_back(state: RunState, generation: int | None) -> Rejected | None:
    if generation in (None, state.generation):
        return None
    return Rejected(
        "run_rolled_back",
        f"The run is in generation {state.generation}: what came after step {state.durable.step} was lost. "
        "Go on from there in that generation.",
    )


def _over_quota(state: RunState, ctx: Context) -> Rejected | None:
    if len(state.pending) >= ctx.limits.unfinished_operations:
        return Rejected("quota_exceeded", f"{len(state.pending)} operations are waiting; wait for their results.")
    if len(state.undurable) >= ctx.limits.undurable_operations:
        return Rejected("quota_exceeded", f"{len(state.undurable)} operations are in no checkpoint; save the state.")
    return None


def _repeated(state: RunState, command_id: bytes) -> Rejected | None:
    if state.operation(command_id) is None and command_id not in state.finished:
        return None
    return Rejected("already_exists", "An operation of this id was submitted before.")


def _accumulated(state: RunState) -> Rejected | None:
    if state.accumulation is None or state.accumulated_ahead() < state.accumulation:
        return None
    return Rejected("accumulation_full", f"A step of this run takes {state.accumulation} batches, which are there.")


def _no_steps_left(state: RunState) -> Rejected | None:
    if state.max_steps is None or state.steps_ahead() < state.max_steps:
        return None
    return Rejected("max_steps_reached", f"The run was created with {state.max_steps} steps.")


def _no_gradient(state: RunState) -> Rejected | None:
    batches = state.accumulated_ahead()
    if not batches:
        return Rejected("nothing_to_apply", "No batch was submitted since the last optimizer step.")
    if state.accumulation in (None, batches):
        return None
    return Rejected(
        "accumulation_incomplete", f"A step of this run takes {state.accumulation} batches; {batches} were submitted."
    )


def _deleting(state: RunState, artifact: bytes) -> Rejected | None:
    held = state.checkpoint(artifact)
    return Rejected("not_found", "The checkpoint is being deleted.") if held and held.deleting else None
