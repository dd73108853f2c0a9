"""What a server keeps for its clients: runs, futures, checkpoints, packages, the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from tg_tinker.types.results import Answer, SaveStateResult

FutureStatus = Literal["pending", "completed", "failed", "cancelled", "lost"]


class Position(Answer):
    """A place on a chain of the ledger."""

    chain: str
    seq: int


class Commitment(Answer):
    """How the ledger refers to a batch or to prompts.

    Whoever has ``salt`` and the data can open it to an auditor (:func:`tensorguard.commitment.check`); the server
    forgets the salt, so keep it if you may ever want to. ``salt`` is None when the server no longer has it.
    """

    algorithm: str
    salt: str | None = None
    digest: str


class Future(Answer):
    """An operation as the server described it last; ``result`` and ``error`` are as they came."""

    future_id: str
    training_client_id: str
    kind: str
    status: FutureStatus
    op_seq: int
    created_at: datetime
    completed_at: datetime | None = None
    generation: int
    commitment: Commitment | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    position: Position


class ModelFacts(Answer):
    """What a client must know of the model to make batches."""

    architecture: str
    vocabulary_size: int
    max_positions: int
    manifest_digest: str


class ModelInfo(ModelFacts):
    """A model of the catalogue. ``source`` is the hub's id and revision that it came from, None for a local folder."""

    name: str
    tokenizer_digest: str
    parameters: int
    dtype: str
    source: str | None = None
    has_chat_template: bool = False
    registered_at: datetime


class TokenizerFile(Answer):
    """One file of a tokenizer: its name, its SHA-256 as hex, its size in bytes."""

    path: str
    sha256: str
    size_bytes: int


class TokenizerInfo(Answer):
    """What a model's tokenizer consists of; the digests are those of the ledger."""

    name: str
    manifest_digest: str
    tokenizer_digest: str
    files: tuple[TokenizerFile, ...]


class Replay(Answer):
    """How a run was computed again after a worker was lost: ``steps`` optimiser steps, ``identical`` to the bit or not.

    Where it is not identical, because the machine is another one, ``differing_step`` is the first step that differs.
    """

    recorded_at: datetime
    steps: int
    identical: bool
    differing_step: int | None = None


class TrainingClientInfo(Answer):
    """A training run as it stands. ``generation`` counts its rollbacks, ``replays`` what was computed again instead.

    While it is ``replaying``, its operations wait and nothing is lost.
    """

    training_client_id: str
    tenant: str
    model_ref: str
    status: Literal["open", "closed"]
    step: int
    generation: int
    last_durable_step: int
    last_durable_artifact_id: str | None = None
    replaying: bool = False
    replays: int = 0
    last_replay: Replay | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime
    closed_at: datetime | None = None
    model: ModelFacts


class SamplerInfo(Answer):
    """A sampler as it stands; ``artifact_id`` and ``step`` are of the checkpoint that it samples from, if it does."""

    sampler_id: str
    tenant: str
    model_ref: str
    artifact_id: str | None = None
    step: int
    status: Literal["open", "closed"]
    seed: int
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime
    closed_at: datetime | None = None
    model: ModelFacts


class ArtifactInfo(SaveStateResult):
    """A checkpoint, with where it comes from."""

    training_client_id: str
    name: str | None = None
    automatic: bool
    step: int
    includes_optimizer: bool
    adapter_digest: str
    manifest_digest: str
    deletion_requested_at: datetime | None = None


class ExportFile(Answer):
    """A file of an export."""

    name: str
    sha256: str
    size_bytes: int


class Export(Answer):
    """An artifact's weights in the clear; ``files`` are there while it is ready."""

    export_id: str
    artifact_id: str
    format: str
    status: Literal["pending", "ready", "failed", "gone"]
    files: tuple[ExportFile, ...] | None = None
    files_digest: str | None = None
    size_bytes: int | None = None
    error: dict[str, Any] | None = None
    expires_at: datetime | None = None


class AuditLogEntry(Answer):
    """A record of the tenant's chain."""

    chain: str
    seq: int
    event: str
    event_id: str
    stream: str
    stream_seq: int
    recorded_at: datetime
    cause: str | None = None
    leaf_hash: str
    data: dict[str, Any] = Field(default_factory=dict)


class Package(Answer):
    """A secure model package."""

    package_id: str
    artifact_id: str
    recipients: tuple[str, ...] = ()
    release_counter: int = 0
    expires_at: datetime | None = None
    status: Literal["pending", "signed", "failed"]
    package_digest: str | None = None
    file_digest: str | None = None
    size_bytes: int | None = None
    error: dict[str, Any] | None = None
    position: Position
