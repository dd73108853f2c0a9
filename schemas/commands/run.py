"""What a client asks of a run, and what its worker reports."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Command
from schemas.types import ExecutionPlan, LoraSpec, OptimizerSpec, StartSpec


@dataclass(frozen=True, slots=True)
class CreateRun(Command):
    """Start a run on a catalogue model."""

    run_id: str
    model: str
    manifest_digest: bytes
    tokenizer_digest: bytes
    lora: LoraSpec | None
    optimizer: OptimizerSpec
    batch_size: int
    gradient_accumulation_steps: int | None
    max_steps: int | None
    seed: int
    metadata_commitment: bytes | None
    batch_retention: str = "memory"
    trainable: bool = True
    start: StartSpec | None = None


@dataclass(frozen=True, slots=True)
class GrantLease(Command):
    """Let one worker report the outcomes of a run, in place of the lease ``former_epoch`` if that is given."""

    run_id: str
    worker: str
    former_epoch: int | None = None


@dataclass(frozen=True, slots=True)
class SubmitForwardBackward(Command):
    """Accumulate the gradient of a batch."""

    run_id: str
    batch_commitment: bytes
    rows: int
    tokens: int
    generation: int | None
    interval: int | None = None


@dataclass(frozen=True, slots=True)
class CompleteForwardBackward(Command):
    """Report an accumulated gradient."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    loss: float
    grad_norm: float
    tokens: int


@dataclass(frozen=True, slots=True)
class SubmitForward(Command):
    """Evaluate a batch without a gradient."""

    run_id: str
    batch_commitment: bytes
    rows: int
    tokens: int
    generation: int | None
    interval: int | None = None


@dataclass(frozen=True, slots=True)
class CompleteForward(Command):
    """Report an evaluated batch."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    loss: float
    tokens: int
    step: int
    logprobs_commitment: bytes


@dataclass(frozen=True, slots=True)
class SubmitOptimStep(Command):
    """Apply the accumulated gradient."""

    run_id: str
    learning_rate: float | None
    generation: int | None
    max_grad_norm: float | None = None


@dataclass(frozen=True, slots=True)
class RecordStep(Command):
    """Report an applied step."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    step: int
    learning_rate: float
    adapter_digest: bytes
    plan: ExecutionPlan
    grad_norm: float = 0.0
    clipped: bool = False


@dataclass(frozen=True, slots=True)
class SubmitSample(Command):
    """Sample completions of prompts."""

    run_id: str
    prompts_commitment: bytes
    prompts: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    generation: int | None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    completions: int = 1
    logprobs: bool = False
    interval: int | None = None


@dataclass(frozen=True, slots=True)
class CompleteSample(Command):
    """Report sampled completions."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    completions_commitment: bytes
    tokens_generated: int
    step: int


@dataclass(frozen=True, slots=True)
class SubmitSaveState(Command):
    """Save a named checkpoint."""

    run_id: str
    name: str
    include_optimizer: bool
    generation: int | None


@dataclass(frozen=True, slots=True)
class RecordCheckpoint(Command):
    """Report a durable checkpoint."""

    run_id: str
    operation_id: bytes | None
    lease_epoch: int
    artifact_id: bytes
    name: str | None
    step: int
    through_op_seq: int
    adapter_digest: bytes
    content_hash: bytes
    manifest_digest: bytes
    size_bytes: int
    wrapping_key_id: str
    includes_optimizer: bool


@dataclass(frozen=True, slots=True)
class SubmitLoadState(Command):
    """Replace the run's state by a checkpoint's."""

    run_id: str
    artifact_id: bytes
    manifest_digest: bytes
    include_optimizer: bool
    generation: int | None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class RecordCheckpointLoaded(Command):
    """Report a loaded checkpoint."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    artifact_id: bytes
    step: int
    adapter_digest: bytes


@dataclass(frozen=True, slots=True)
class FailOperation(Command):
    """Report an operation that ended without effect."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    code: str


@dataclass(frozen=True, slots=True)
class RequestCancellation(Command):
    """Drop an operation if it has not started."""

    run_id: str
    operation_id: bytes


@dataclass(frozen=True, slots=True)
class CloseRun(Command):
    """Take no more operations."""

    run_id: str


@dataclass(frozen=True, slots=True)
class RecordReplay(Command):
    """Report that a run's state was computed again from its last durable one."""

    run_id: str
    lease_epoch: int
    through_op_seq: int
    steps: int
    adapter_digest: bytes
    identical: bool
    differing_step: int | None
    plan: ExecutionPlan | None


@dataclass(frozen=True, slots=True)
class FailReplay(Command):
    """Report that a run's state cannot be computed again."""

    run_id: str
    lease_epoch: int
    code: str


@dataclass(frozen=True, slots=True)
class RecordBatchKeyDestroyed(Command):
    """Report that the key of an interval's inputs is gone."""

    run_id: str
    interval: int


@dataclass(frozen=True, slots=True)
class DeleteArtifact(Command):
    """Delete a checkpoint and destroy its key."""

    run_id: str
    artifact_id: bytes


@dataclass(frozen=True, slots=True)
class RecordArtifactDeleted(Command):
    """Report that a checkpoint and its key are gone."""

    run_id: str
    artifact_id: bytes


@dataclass(frozen=True, slots=True)
class ExportArtifact(Command):
    """Hand a checkpoint's weights to its tenant in the clear."""

    run_id: str
    artifact_id: bytes
    manifest_digest: bytes
    export_id: bytes
    format: str


@dataclass(frozen=True, slots=True)
class RecordArtifactExported(Command):
    """Report the files of an export."""

    run_id: str
    export_id: bytes
    files_digest: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FailArtifactExport(Command):
    """Report an export that could not be made."""

    run_id: str
    export_id: bytes
    code: str
