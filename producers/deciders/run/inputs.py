"""The private inputs of a sealed run: under which key they lie, and when that key may go.

An interval is the time between two durable states, and has a key of its own. What was submitted in it may be needed
again until a durable state has come after all of it; then its key is destroyed, and the inputs with it.
"""

from __future__ import annotations

from producers.deciders.context import Context, Decision, Rejected
from producers.deciders.run.state import RunState
from schemas import commands as c
from schemas import events as e

Input = c.SubmitForwardBackward | c.SubmitForward | c.SubmitSample


def misplaced(state: RunState, interval: int | None, ctx: Context) -> Rejected | None:
    """Whether an input is sealed under another key than that of the interval which the run is in."""
    if not state.sealed:
        return Rejected("invalid_value", "The run keeps no inputs.") if interval is not None else None
    if interval != state.durable.op_seq:
        return Rejected("interval_over", f"The run is in interval {state.durable.op_seq}; seal the input again.")
    known = any(each.number == interval for each in state.intervals)
    if known or len(state.intervals) < ctx.limits.sealed_intervals:
        return None
    return Rejected("quota_exceeded", f"The inputs of {len(state.intervals)} intervals are not deleted yet.")


def key_destroyed(state: RunState, command: c.RecordBatchKeyDestroyed, _ctx: Context) -> Decision:
    """The key of an interval is gone, after nothing could need it again."""
    interval = next((each for each in state.intervals if each.number == command.interval), None)
    if interval is None:
        return Rejected("not_found", "The interval holds no inputs, or its key was destroyed before.")
    if not state.covered(interval):
        return Rejected("out_of_order", "The run still rests on inputs of the interval.")
    return (e.BatchKeyDestroyed(command.run_id, interval.number, interval.last_op_seq),)
