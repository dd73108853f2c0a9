"""A run's checkpoints after they were saved: deleted, or handed out in the clear."""

from __future__ import annotations

from producers.deciders.context import Context, Decision, Rejected
from producers.deciders.run.outcomes import same
from producers.deciders.run.state import RunState
from schemas import commands as c
from schemas import events as e


def delete(state: RunState, command: c.DeleteArtifact, _ctx: Context) -> Decision:
    """Have a checkpoint deleted that the run does not rest on."""
    refusal = _unknown(state, command.artifact_id) or _in_use(state, command.artifact_id)
    if refusal:
        return refusal
    held = state.checkpoint(command.artifact_id)
    if held is not None and held.deleting:
        return Rejected("already_exists", "The checkpoint's deletion was requested before.")
    return (e.ArtifactDeletionRequested(command.run_id, command.artifact_id),)


def deleted(state: RunState, command: c.RecordArtifactDeleted, _ctx: Context) -> Decision:
    """A checkpoint is gone: one whose deletion was requested, or an automatic one that is superseded."""
    refusal = _unknown(state, command.artifact_id) or _in_use(state, command.artifact_id)
    if refusal:
        return refusal
    held = state.checkpoint(command.artifact_id)
    if held is not None and not held.automatic and not held.deleting:
        return Rejected("invalid_value", "Nobody asked for this checkpoint's deletion.")
    return (e.ArtifactDeleted(command.run_id, command.artifact_id),)


def export(state: RunState, command: c.ExportArtifact, ctx: Context) -> Decision:
    """Have a checkpoint's weights handed out."""
    if command.export_id in state.exports or command.export_id in state.exported:
        return Rejected("already_exists", "An export of this id was asked for before.")
    held = state.checkpoint(command.artifact_id)
    refusal = _unknown(state, command.artifact_id)
    if refusal or (held is not None and held.deleting):
        return refusal or Rejected("not_found", "The checkpoint is being deleted.")
    if len(state.exports) >= ctx.limits.pending_exports:
        return Rejected("quota_exceeded", f"{len(state.exports)} exports are waiting; wait for them.")
    return (same(command, e.ArtifactExportRequested),)


def exported(state: RunState, command: c.RecordArtifactExported, _ctx: Context) -> Decision:
    """An export's files exist."""
    return _no_export(state, command.export_id) or (same(command, e.ArtifactExported),)


def export_failed(state: RunState, command: c.FailArtifactExport, _ctx: Context) -> Decision:
    """An export could not be made."""
    return _no_export(state, command.export_id) or (same(command, e.ArtifactExportFailed),)


def _unknown(state: RunState, artifact: bytes) -> Rejected | None:
    if state.forgot_checkpoints or state.checkpoint(artifact) is not None:
        return None
    return Rejected("not_found", "The run saved no such checkpoint, or it is deleted.")


def _in_use(state: RunState, artifact: bytes) -> Rejected | None:
    if not state.rests_on(artifact):
        return None
    return Rejected("artifact_in_use", "The run rests on the checkpoint: save a newer one, or close the run.")


def _no_export(state: RunState, export_id: bytes) -> Rejected | None:
    if export_id in state.exports:
        return None
    if export_id in state.exported:
        return Rejected("operation_finished", "The export exists or failed.")
    return Rejected("not_found", "No such export was asked for.")
