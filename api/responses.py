"""What clients get. Times are RFC 3339 in UTC with microseconds; ids and digests are lower-case hex."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A part of a list; ``next_cursor`` is None at its end."""

    items: list[Item]
    next_cursor: str | None


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    message: str
    kind: str


class Problem(BaseModel):
    """RFC 9457. ``code`` is stable; ``next_step`` says what to do."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    next_step: str
    errors: list[FieldError] | None = Field(None, description="invalid_request: what is wrong where.")
    retry_after: int | None = Field(None, description="quota_exceeded: seconds to wait, as in Retry-After.")
    last_durable_step: int | None = Field(None, description="After a rollback: where the run stands.")
    artifact_id: str | None = Field(None, description="After a rollback: the checkpoint of that step.")
    generation: int | None = Field(None, description="After a rollback: the run's generation from now on.")
    lost_operations: int | None = Field(None, description="After a rollback: how many operations were lost.")


class ModelFacts(BaseModel):
    """What a client must know of the model to make batches."""

    architecture: str
    vocabulary_size: int
    max_positions: int
    manifest_digest: str


class Replay(BaseModel):
    """A run was computed again from its durable state to where it stood; ``differing_step`` is the first to differ."""

    recorded_at: str
    steps: int
    identical: bool
    differing_step: int | None


class TrainingClientInfo(BaseModel):
    """A training run as it stands; while it is ``replaying``, nothing is lost and its operations wait."""

    training_client_id: str
    tenant: str
    model_ref: str
    status: Literal["open", "closed"]
    step: int
    generation: int
    last_durable_step: int
    last_durable_artifact_id: str | None
    replaying: bool
    replays: int
    last_replay: Replay | None
    config: dict[str, Any]
    created_at: str
    closed_at: str | None
    model: ModelFacts


class SamplerInfo(BaseModel):
    """A sampler as it stands; ``artifact_id`` and ``step`` are of the checkpoint that it samples from, if it does."""

    sampler_id: str
    tenant: str
    model_ref: str
    artifact_id: str | None
    step: int
    status: Literal["open", "closed"]
    seed: int
    metadata: dict[str, Any]
    created_at: str
    closed_at: str | None
    model: ModelFacts


class Position(BaseModel):
    """A place on a chain."""

    chain: str
    seq: int


class Commitment(BaseModel):
    """How the ledger refers to a batch or to prompts. Keep the salt: it opens the commitment to an auditor."""

    algorithm: Literal["sha256-salted"]
    salt: str | None = Field(description="None when the server no longer holds it.")
    digest: str


class ForwardBackwardResult(BaseModel):
    """An accumulated gradient."""

    loss: float
    grad_norm: float
    tokens_processed: int
    dp_metrics: None = None


class ForwardResult(BaseModel):
    """An evaluated batch; per row and position the token's log-probability, null where there is none."""

    loss: float
    tokens_processed: int
    logprobs: list[list[float | None]]


class OptimStepResult(BaseModel):
    """An applied step; ``grad_norm`` is its gradient's norm before it was clipped."""

    step: int
    learning_rate: float
    grad_norm: float
    clipped: bool
    dp_metrics: None = None


class Sample(BaseModel):
    """A completion. ``token_ids`` and ``logprobs`` are of every generated token, the ending ones included."""

    prompt_index: int
    completion_index: int
    prompt: str | None = Field(description="None where messages or tokens were given.")
    completion: str
    token_ids: list[int]
    logprobs: list[float] | None
    tokens_generated: int
    finish_reason: Literal["stop", "length", "stop_string", "stop_token"]


class SampledWith(BaseModel):
    """The settings that completions were drawn with; what ended them is the caller's secret."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    n: int = Field(default=1, validation_alias="completions")
    logprobs: bool = False
    seed: int | None


class SampleResult(BaseModel):
    """Completions in the order of their prompts, those of one prompt side by side."""

    samples: list[Sample]
    model_step: int
    sampling_config: SampledWith


class Encryption(BaseModel):
    """How an artifact is sealed."""

    algorithm: Literal["AES-256-GCM"]
    key_id: str


class SaveStateResult(BaseModel):
    """A durable checkpoint."""

    artifact_id: str
    artifact_type: Literal["checkpoint"]
    size_bytes: int
    encryption: Encryption
    content_hash: str
    metadata: dict[str, Any]
    created_at: str


class LoadStateResult(BaseModel):
    """A loaded checkpoint."""

    artifact_id: str
    step: int
    adapter_digest: str


Result = SampleResult | SaveStateResult | LoadStateResult | ForwardResult | ForwardBackwardResult | OptimStepResult


class Future(BaseModel):
    """An operation and what became of it."""

    future_id: str
    training_client_id: str
    kind: Literal["forward_backward", "forward", "optim_step", "sample", "save_state", "load_state"]
    status: Literal["pending", "completed", "failed", "cancelled", "lost"]
    op_seq: int
    created_at: str
    completed_at: str | None
    generation: int
    commitment: Commitment | None
    result: Result | None
    error: Problem | None
    position: Position


class ArtifactInfo(SaveStateResult):
    """A checkpoint, with where it comes from."""

    training_client_id: str
    name: str | None
    automatic: bool
    step: int
    includes_optimizer: bool
    adapter_digest: str
    manifest_digest: str
    deletion_requested_at: str | None = Field(description="Since when it is being deleted; nothing loads it any more.")
    position: Position


class ModelFile(BaseModel):
    """A file of a model."""

    path: str
    sha256: str
    size_bytes: int


class ModelInfo(ModelFacts):
    """A model of the catalogue."""

    name: str
    tokenizer_digest: str
    parameters: int
    dtype: str
    source: str | None
    has_chat_template: bool
    files: list[ModelFile]
    registered_at: str


class TokenizerInfo(BaseModel):
    """A model's tokenizer; `tokenizer_digest` covers paths, digests and sizes of its files."""

    name: str
    manifest_digest: str
    tokenizer_digest: str
    files: list[ModelFile]


class AuditLogEntry(BaseModel):
    """A record of the tenant's chain."""

    chain: str
    seq: int
    event: str
    event_id: str
    stream: str
    stream_seq: int
    recorded_at: str
    cause: str | None
    leaf_hash: str
    data: dict[str, Any]


class PackageOpened(BaseModel):
    """A device's report."""

    device: str
    package_digest: str
    opened_at: str
    position: Position


class PackageInfo(BaseModel):
    """A secure model package."""

    package_id: str
    training_client_id: str
    artifact_id: str
    recipients: list[str]
    release_counter: int
    expires_at: str | None
    status: Literal["pending", "signed", "failed"]
    package_digest: str | None
    file_digest: str | None
    size_bytes: int | None
    error: Problem | None
    requested_at: str
    finished_at: str | None
    opened: list[PackageOpened]
    position: Position


class ExportFile(BaseModel):
    """A file of an export."""

    name: str
    sha256: str
    size_bytes: int


class ExportInfo(BaseModel):
    """A checkpoint's weights in the clear; ``files`` are there while it is ready."""

    export_id: str
    artifact_id: str
    training_client_id: str
    format: Literal["peft", "merged"]
    status: Literal["pending", "ready", "failed", "gone"]
    files: list[ExportFile] | None
    files_digest: str | None = Field(description="SHA-256 of the canonical JSON of the files, as on the ledger.")
    size_bytes: int | None
    error: Problem | None
    requested_at: str
    finished_at: str | None
    expires_at: str | None
    position: Position


class DeviceInfo(BaseModel):
    """An enrolled device."""

    key_id: str
    name: str
    public_key: str
    hpke_public_key: str
    enrolled_at: str
    revoked_at: str | None


class ReplyBody(BaseModel):
    """The decision on a signed command."""

    command_id: str
    outcome: Literal["accepted", "rejected"]
    chain: str
    first_seq: int | None
    last_seq: int | None
    code: str
    detail: str


class Health(BaseModel):
    """Alive."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Which parts can do their work."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, bool]
