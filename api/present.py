"""Rows of the views as clients see them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tensorguard.commitment import ALGORITHM

from api import problems
from api import responses as r
from api.errors import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorguard.model_manifest import FileDigest

    from processors.exporter.store import Listing
    from projections.models import (
        Artifact,
        AuditEntry,
        CatalogueModel,
        Export,
        KnownModel,
        Operation,
        Package,
        PackageOpening,
        ProducerKey,
        Run,
    )

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso(microseconds: int) -> str:
    """RFC 3339 in UTC with all six digits."""
    return (_EPOCH + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _iso(microseconds: int | None) -> str | None:
    return None if microseconds is None else iso(microseconds)


def training_client(run: Run, model: KnownModel, metadata: dict[str, Any]) -> r.TrainingClientInfo:
    """A run."""
    return r.TrainingClientInfo(
        training_client_id=run.run_id,
        tenant=run.chain,
        model_ref=run.model,
        status="open" if run.closed_at is None else "closed",
        step=run.step,
        generation=run.generation,
        last_durable_step=run.durable_step,
        last_durable_artifact_id=run.durable_artifact_id,
        replaying=run.replaying,
        replays=run.replays,
        last_replay=_replay(run.last_replay) if run.last_replay else None,
        config=_config(run, metadata),
        created_at=iso(run.created_at),
        closed_at=_iso(run.closed_at),
        model=_facts(run, model),
    )


def _replay(replay: dict[str, Any]) -> r.Replay:
    return r.Replay(
        recorded_at=iso(replay["recorded_at"]),
        steps=replay["steps"],
        identical=replay["identical"],
        differing_step=replay["differing_step"],
    )


def sampler(run: Run, model: KnownModel, metadata: dict[str, Any]) -> r.SamplerInfo:
    """A run that only samples."""
    return r.SamplerInfo(
        sampler_id=run.run_id,
        tenant=run.chain,
        model_ref=run.model,
        artifact_id=run.start_artifact_id,
        step=run.step,
        status="open" if run.closed_at is None else "closed",
        seed=run.seed,
        metadata=metadata,
        created_at=iso(run.created_at),
        closed_at=_iso(run.closed_at),
        model=_facts(run, model),
    )


def _facts(run: Run, model: KnownModel) -> r.ModelFacts:
    return r.ModelFacts(
        architecture=model.architecture,
        vocabulary_size=model.vocabulary_size,
        max_positions=model.max_positions,
        manifest_digest=run.manifest_digest,
    )


def _config(run: Run, metadata: dict[str, Any]) -> dict[str, Any]:
    optimizer = {key: value for key, value in run.optimizer.items() if key not in ("beta1", "beta2")}
    return {
        "model_ref": run.model,
        "lora_config": run.lora,
        "optimizer": {**optimizer, "betas": [run.optimizer["beta1"], run.optimizer["beta2"]]},
        "dp_config": None,
        "batch_size": run.batch_size,
        "gradient_accumulation_steps": run.gradient_accumulation_steps,
        "max_steps": run.max_steps,
        "batch_retention": run.batch_retention,
        "seed": run.seed,
        "metadata": metadata,
    }


def future(operation: Operation, *, salt: bytes | None, result: r.Result | None, problem: r.Problem | None) -> r.Future:
    """An operation, with the result or the problem that belongs to its state."""
    digest = operation.parameters.get("commitment")
    return r.Future.model_validate(
        {
            "future_id": operation.operation_id,
            "training_client_id": operation.run_id,
            "kind": operation.kind,
            "status": operation.status,
            "op_seq": operation.op_seq,
            "created_at": iso(operation.created_at),
            "completed_at": _iso(operation.completed_at),
            "generation": operation.generation,
            "commitment": digest and {"algorithm": ALGORITHM, "salt": salt.hex() if salt else None, "digest": digest},
            "result": result,
            "error": problem,
            "position": {"chain": operation.chain, "seq": operation.last_seq},
        }
    )


def operation_problem(error: dict[str, Any]) -> r.Problem:
    """Why an operation did not complete."""
    code = error["code"] if error["code"] in KINDS else "internal_error"
    extras = {key: value for key, value in error.items() if key != "code"}
    return r.Problem.model_validate(problems.document(code, _sentence(code, extras), extras))


def _sentence(code: str, extras: dict[str, Any]) -> str:
    if code == "operation_lost":
        return f"A worker was lost before this was durable; the run stands at step {extras['last_durable_step']}."
    return f"{KINDS[code].title}."


def expired_result() -> r.Problem:
    """What an operation left beside the ledger is no longer here."""
    return r.Problem.model_validate(problems.document("result_expired", "The result is no longer kept."))


def scalars(operation: Operation) -> r.Result | None:
    """The result of an operation whose outcome is on the ledger as a whole."""
    match operation.kind, operation.result:
        case "forward_backward", dict(result):
            return r.ForwardBackwardResult.model_validate(result)
        case "optim_step", dict(result):
            return r.OptimStepResult(
                step=result["step"],
                learning_rate=result["learning_rate"],
                grad_norm=result.get("grad_norm", 0.0),
                clipped=result.get("clipped", False),
            )
        case "load_state", dict(result):
            return r.LoadStateResult.model_validate(result)
        case _:
            return None


def evaluated(operation: Operation, data: bytes) -> r.ForwardResult:
    """An evaluated batch; ``data`` is what the trainer left beside the ledger."""
    result = operation.result or {}
    return r.ForwardResult(
        loss=result["loss"], tokens_processed=result["tokens_processed"], logprobs=json.loads(data)["logprobs"]
    )


def samples(operation: Operation, data: bytes) -> r.SampleResult:
    """A sample's result; ``data`` is what the trainer left at the exchange."""
    asked = operation.parameters
    return r.SampleResult(
        samples=[r.Sample.model_validate(each) for each in json.loads(data)["samples"]],
        model_step=(operation.result or {})["model_step"],
        sampling_config=r.SampledWith.model_validate(asked),
    )


def saved(artifact: Artifact, metadata: dict[str, Any]) -> r.SaveStateResult:
    """A checkpoint, as the operation that asked for it gets it."""
    return r.SaveStateResult(**_saved(artifact, metadata))


def artifact(row: Artifact, metadata: dict[str, Any]) -> r.ArtifactInfo:
    """A checkpoint, as lists show it."""
    return r.ArtifactInfo(
        **_saved(row, metadata),
        training_client_id=row.run_id,
        name=row.name,
        automatic=row.operation_id is None,
        step=row.step,
        includes_optimizer=row.includes_optimizer,
        adapter_digest=row.adapter_digest,
        manifest_digest=row.manifest_digest,
        deletion_requested_at=_iso(row.deletion_requested_at),
        position=r.Position(chain=row.chain, seq=row.seq),
    )


def _saved(row: Artifact, metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "artifact_id": row.artifact_id,
        "artifact_type": "checkpoint",
        "size_bytes": row.size_bytes,
        "encryption": r.Encryption(algorithm="AES-256-GCM", key_id=row.wrapping_key_id),
        "content_hash": row.content_hash,
        "metadata": metadata,
        "created_at": iso(row.created_at),
    }


def model(row: CatalogueModel) -> r.ModelInfo:
    """A model of the catalogue."""
    return r.ModelInfo(
        name=row.name,
        architecture=row.architecture,
        vocabulary_size=row.vocabulary_size,
        max_positions=row.max_positions,
        manifest_digest=row.manifest_digest,
        tokenizer_digest=row.tokenizer_digest,
        parameters=row.parameters,
        dtype=row.dtype,
        source=row.source,
        has_chat_template=row.has_chat_template,
        files=[r.ModelFile.model_validate(each) for each in row.files],
        registered_at=iso(row.registered_at),
    )


def audit_entry(row: AuditEntry) -> r.AuditLogEntry:
    """A record."""
    return r.AuditLogEntry(
        chain=row.chain,
        seq=row.seq,
        event=row.event,
        event_id=row.event_id,
        stream=row.stream,
        stream_seq=row.stream_seq,
        recorded_at=iso(row.recorded_at),
        cause=row.cause,
        leaf_hash=row.leaf_hash,
        data=row.data,
    )


def package(row: Package, openings: Sequence[PackageOpening]) -> r.PackageInfo:
    """A package with the devices' reports about it."""
    return r.PackageInfo.model_validate(
        {
            "package_id": row.package_id,
            "training_client_id": row.run_id,
            "artifact_id": row.artifact_id,
            "recipients": row.recipients,
            "release_counter": row.release_counter,
            "expires_at": _iso(row.expires_at),
            "status": row.status,
            "package_digest": row.package_digest,
            "file_digest": row.file_digest,
            "size_bytes": row.size_bytes,
            "error": operation_problem({"code": row.error_code}) if row.error_code else None,
            "requested_at": iso(row.requested_at),
            "finished_at": _iso(row.finished_at),
            "opened": [_opened(each) for each in openings],
            "position": {"chain": row.chain, "seq": row.finished_seq if row.finished_seq is not None else row.seq},
        }
    )


def export(row: Export, listing: Listing | None) -> r.ExportInfo:
    """An export, and its files if they are there."""
    made = "ready" if listing else "gone"
    return r.ExportInfo.model_validate(
        {
            "export_id": row.export_id,
            "artifact_id": row.artifact_id,
            "training_client_id": row.run_id,
            "format": row.format,
            "status": row.status if row.files_digest is None else made,
            "files": [_file(file) for file in listing.files] if listing else None,
            "files_digest": row.files_digest,
            "size_bytes": row.size_bytes,
            "error": operation_problem({"code": row.error_code}) if row.error_code else None,
            "requested_at": iso(row.requested_at),
            "finished_at": _iso(row.finished_at),
            "expires_at": _iso(listing.expires_at) if listing else None,
            "position": {"chain": row.chain, "seq": row.finished_seq if row.finished_seq is not None else row.seq},
        }
    )


def _file(file: FileDigest) -> r.ExportFile:
    return r.ExportFile(name=file.path, sha256=file.sha256, size_bytes=file.size_bytes)


def _opened(row: PackageOpening) -> r.PackageOpened:
    return r.PackageOpened(
        device=row.device,
        package_digest=row.package_digest,
        opened_at=iso(row.opened_at),
        position=r.Position(chain=row.chain, seq=row.seq),
    )


def device(row: ProducerKey) -> r.DeviceInfo:
    """An enrolled device."""
    return r.DeviceInfo(
        key_id=row.key_id,
        name=row.name,
        public_key=row.public_key,
        hpke_public_key=row.hpke_public_key or "",
        enrolled_at=iso(row.enrolled_at),
        revoked_at=_iso(row.revoked_at),
    )
