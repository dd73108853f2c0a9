"""Checkpoints: saved, loaded, deleted, handed out."""

from __future__ import annotations

from producers.feed import Recorded
from projections.handlers.registry import Handlers, View
from projections.handlers.rows import complete, run_of
from projections.models import Artifact, Export, Run
from schemas import events

HANDLERS = Handlers()
EXPORT_PENDING, EXPORTED, EXPORT_FAILED = "pending", "exported", "failed"


@HANDLERS.on(events.CheckpointSaved)
def checkpoint_saved(view: View, at: Recorded, event: events.CheckpointSaved) -> None:
    """A checkpoint is durable; without an operation it is an automatic one. A run resumes from whole ones only."""
    artifact_id = event.artifact_id.hex()
    view.session.add(
        Artifact(
            chain=at.chain,
            artifact_id=artifact_id,
            run_id=event.run_id,
            operation_id=event.operation_id.hex() if event.operation_id else None,
            name=event.name,
            step=event.step,
            through_op_seq=event.through_op_seq,
            adapter_digest=event.adapter_digest.hex(),
            content_hash=event.content_hash.hex(),
            manifest_digest=event.manifest_digest.hex(),
            size_bytes=event.size_bytes,
            wrapping_key_id=event.wrapping_key_id,
            includes_optimizer=event.includes_optimizer,
            seq=at.seq,
            created_at=at.meta.recorded_at,
            deletion_requested_at=None,
            deleted_at=None,
        )
    )
    if event.includes_optimizer:
        _now_durable(run_of(view, at, event.run_id), event.through_op_seq, event.step, artifact_id)
    if event.operation_id is not None:
        complete(view, at, event.operation_id, {"artifact_id": artifact_id})


@HANDLERS.on(events.CheckpointLoaded)
def checkpoint_loaded(view: View, at: Recorded, event: events.CheckpointLoaded) -> None:
    """The run's state is a checkpoint's; loaded whole, it is as durable as that."""
    run = run_of(view, at, event.run_id)
    artifact_id = event.artifact_id.hex()
    result = {"artifact_id": artifact_id, "step": event.step, "adapter_digest": event.adapter_digest.hex()}
    operation = complete(view, at, event.operation_id, result)
    run.step = event.step
    if operation.parameters["include_optimizer"]:
        _now_durable(run, operation.op_seq, event.step, artifact_id)


def _now_durable(run: Run, op_seq: int, step: int, artifact_id: str) -> None:
    """The newest durable state wins; of two at the same operation, the later record."""
    if op_seq >= run.durable_op_seq:
        run.durable_op_seq, run.durable_step, run.durable_artifact_id = op_seq, step, artifact_id


@HANDLERS.on(events.ArtifactDeletionRequested)
def artifact_deletion_requested(view: View, at: Recorded, event: events.ArtifactDeletionRequested) -> None:
    """A checkpoint shall go."""
    artifact = _artifact(view, at, event.artifact_id)
    if artifact is not None:
        artifact.deletion_requested_at = at.meta.recorded_at


@HANDLERS.on(events.ArtifactDeleted)
def artifact_deleted(view: View, at: Recorded, event: events.ArtifactDeleted) -> None:
    """A checkpoint is gone; its row stays, so that a repeat is answered by what happened."""
    artifact = _artifact(view, at, event.artifact_id)
    if artifact is not None:
        artifact.deleted_at = artifact.deleted_at or at.meta.recorded_at


def _artifact(view: View, at: Recorded, artifact_id: bytes) -> Artifact | None:
    """The row of a checkpoint; a run that has forgotten old ones may have let the name of none through."""
    view.touched.add(artifact_id.hex())
    return view.session.get(Artifact, (at.chain, artifact_id.hex()))


@HANDLERS.on(events.ArtifactExportRequested)
def export_requested(view: View, at: Recorded, event: events.ArtifactExportRequested) -> None:
    """An export waits for the packager."""
    view.session.add(
        Export(
            chain=at.chain,
            export_id=event.export_id.hex(),
            run_id=event.run_id,
            artifact_id=event.artifact_id.hex(),
            manifest_digest=event.manifest_digest.hex(),
            format=event.format,
            status=EXPORT_PENDING,
            seq=at.seq,
            requested_at=at.meta.recorded_at,
        )
    )
    view.touched.add(event.export_id.hex())


@HANDLERS.on(events.ArtifactExported)
def artifact_exported(view: View, at: Recorded, event: events.ArtifactExported) -> None:
    """An export's files exist."""
    export = _finish(view, at, event.export_id, EXPORTED)
    export.files_digest = event.files_digest.hex()
    export.size_bytes = event.size_bytes


@HANDLERS.on(events.ArtifactExportFailed)
def artifact_export_failed(view: View, at: Recorded, event: events.ArtifactExportFailed) -> None:
    """An export could not be made."""
    _finish(view, at, event.export_id, EXPORT_FAILED).error_code = event.code


def _finish(view: View, at: Recorded, export_id: bytes, status: str) -> Export:
    export = view.session.get_one(Export, (at.chain, export_id.hex()))
    export.status = status
    export.finished_seq = at.seq
    export.finished_at = at.meta.recorded_at
    view.touched.add(export.export_id)
    return export
