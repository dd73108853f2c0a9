"""Who works on a run, from which state on, and what a change of worker loses or has computed again."""

from __future__ import annotations

from producers.deciders.context import Context, Decision, Rejected
from producers.deciders.run import parts as p
from producers.deciders.run.outcomes import not_holding, same
from producers.deciders.run.state import RunState
from schemas import commands as c
from schemas import events as e


def grant(state: RunState, command: c.GrantLease, _ctx: Context) -> Decision:
    """Give the run to a worker, which resumes from the newest durable state.

    What comes after that state was in the former worker's memory only. A sealed run still has its inputs: the worker
    computes it again, and what is queued waits. Else it is lost: every operation without an outcome, and those that
    changed what the former worker held. A first lease loses nothing: what is queued has simply not run yet.
    """
    if state.idle():
        return Rejected("run_closed", "The run is closed and has nothing left to do.")
    if command.former_epoch is not None and (refusal := _for_nothing(state, command)):
        return refusal
    durable = state.durable
    granted = e.RunLeaseGranted(
        command.run_id, command.worker, state.lease_epoch + 1, durable.artifact, durable.step, durable.op_seq
    )
    if state.sealed or state.lease_epoch == 0 or not (state.pending or state.undurable):
        return (granted,)
    return (granted, _lost(state))


def _for_nothing(state: RunState, command: c.GrantLease) -> Rejected | None:
    """Whether the run has moved on since its grant was thought of, or would be taken from its worker to give it back.

    A grant that names no former lease goes through whatever the run's is: older ledgers have such.
    """
    if command.former_epoch != state.lease_epoch:
        return Rejected("stale_lease", f"The run's lease is number {state.lease_epoch}.")
    if command.worker == state.worker:
        return Rejected("already_exists", "The worker holds this run.")
    return None


def replayed(state: RunState, command: c.RecordReplay, ctx: Context) -> Decision:
    """What is not durable was computed again: all of it, and with the recorded digests or a named difference."""
    refusal = _not_replaying(state, command, ctx)
    if refusal:
        return refusal
    steps = [change.step for change in state.undurable if change.kind == p.OPTIM_STEP]
    if command.through_op_seq != state.undurable[-1].op_seq or command.steps != len(steps):
        return Rejected("invalid_value", f"{len(steps)} steps to operation {state.undurable[-1].op_seq} are to repeat.")
    if command.identical:
        return _not_identical(state, command) or (same(command, e.RunReplayed),)
    if command.plan is None or command.differing_step not in steps:
        return Rejected("invalid_value", "A replay that differs names a step of it and its execution plan.")
    return (same(command, e.RunReplayed),)


def replay_failed(state: RunState, command: c.FailReplay, ctx: Context) -> Decision:
    """What is not durable cannot be computed again: it is lost, with everything that waited for it."""
    return _not_replaying(state, command, ctx) or (_lost(state, command.code),)


def _lost(state: RunState, cause: str | None = None) -> e.RunRolledBack:
    return e.RunRolledBack(
        state.run_id,
        state.generation + 1,
        state.durable.step,
        state.durable.artifact,
        lost_after_op_seq=state.durable.op_seq,
        lost_through_op_seq=state.last_op_seq,
        lost_operations=len(state.pending) + len(state.undurable),
        cause_code=cause,
    )


def _not_replaying(state: RunState, command: c.RecordReplay | c.FailReplay, ctx: Context) -> Rejected | None:
    refusal = not_holding(state, command, ctx)
    if refusal or state.replaying:
        return refusal
    return Rejected("out_of_order", "The run has nothing to compute again.")


def _not_identical(state: RunState, command: c.RecordReplay) -> Rejected | None:
    if command.differing_step is not None:
        return Rejected("invalid_value", "An identical replay differs in no step.")
    if state.digest not in (None, command.adapter_digest):
        return Rejected("invalid_value", "The replay's adapter is not the one that was recorded.")
    return None
