"""Who works on a run, from which state on, and what a change of worker loses."""

from __future__ import annotations

from producers.deciders.context import Context, Decision
from producers.deciders.run.state import RunState
from schemas import commands as c
from schemas import events as e


def grant(state: RunState, command: c.GrantLease, _ctx: Context) -> Decision:
    """Give the run to a worker, which resumes from the newest durable state.

    Lost is what comes after that state: every operation without an outcome, and those that changed what the former
    worker held in memory. A first lease loses nothing: what is queued has simply not run yet.
    """
    durable = state.durable
    granted = e.RunLeaseGranted(
        command.run_id, command.worker, state.lease_epoch + 1, durable.artifact, durable.step, durable.op_seq
    )
    lost = len(state.pending) + len(state.undurable)
    if state.lease_epoch == 0 or lost == 0:
        return (granted,)
    rolled_back = e.RunRolledBack(
        command.run_id,
        state.generation + 1,
        durable.step,
        durable.artifact,
        lost_after_op_seq=durable.op_seq,
        lost_through_op_seq=state.last_op_seq,
        lost_operations=lost,
    )
    return (granted, rolled_back)
