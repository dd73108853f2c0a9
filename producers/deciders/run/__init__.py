"""Runs: requests of clients, outcomes of the worker that holds the lease. Stream ``run/<run id>``.

``state.py`` (of ``parts.py``) is what a run is, ``folds.py`` how events change it. ``requests.py`` decides what clients
ask, ``outcomes.py`` what its worker reports, ``lease.py`` who works on it and what that loses or repeats, ``inputs.py``
which inputs are kept for that, ``kept.py`` what becomes of its checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from producers.deciders.context import Context, Decision, Rejected
from producers.deciders.run import inputs, kept, lease, outcomes, requests
from producers.deciders.run.folds import EVENTS, evolve
from producers.deciders.run.state import RunState
from schemas import commands as c
from schemas.base import Command

__all__ = ["EVENTS", "RunState", "decide", "evolve"]

_DECIDERS: Mapping[type[Command], Callable[[RunState, Any, Context], Decision]] = {
    c.GrantLease: lease.grant,
    c.RecordReplay: lease.replayed,
    c.FailReplay: lease.replay_failed,
    c.SubmitForwardBackward: requests.forward_backward,
    c.SubmitForward: requests.forward,
    c.SubmitOptimStep: requests.optim_step,
    c.SubmitSample: requests.sample,
    c.SubmitSaveState: requests.save_state,
    c.SubmitLoadState: requests.load_state,
    c.RequestCancellation: requests.cancel,
    c.CloseRun: requests.close,
    c.CompleteForwardBackward: outcomes.forward_backward,
    c.CompleteForward: outcomes.forward,
    c.RecordStep: outcomes.step,
    c.CompleteSample: outcomes.sample,
    c.RecordCheckpoint: outcomes.checkpoint,
    c.RecordCheckpointLoaded: outcomes.loaded,
    c.FailOperation: outcomes.failed,
    c.RecordBatchKeyDestroyed: inputs.key_destroyed,
    c.DeleteArtifact: kept.delete,
    c.RecordArtifactDeleted: kept.deleted,
    c.ExportArtifact: kept.export,
    c.RecordArtifactExported: kept.exported,
    c.FailArtifactExport: kept.export_failed,
}


def decide(state: RunState | None, command: Command, ctx: Context) -> Decision:
    """What a run makes of a command."""
    if isinstance(command, c.CreateRun):
        return requests.create(state, command)
    decider = _DECIDERS.get(type(command))
    if decider is None:
        return Rejected("wrong_stream", "A run's stream takes commands about runs only.")
    if state is None:
        return Rejected("not_found", "There is no such run on this chain.")
    return decider(state, command, ctx)
