"""A training run: its life, its operations in strict order, and what became durable."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Event
from schemas.types import ExecutionPlan, LoraSpec, OptimizerSpec, StartSpec


@dataclass(frozen=True, slots=True)
class RunCreated(Event):
    """A run exists on a catalogue model."""

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
class RunLeaseGranted(Event):
    """A worker alone may report outcomes of this run, from this state on."""

    run_id: str
    worker: str
    lease_epoch: int
    resume_artifact: bytes | None
    resume_step: int
    resume_op_seq: int


@dataclass(frozen=True, slots=True)
class RunRolledBack(Event):
    """Operations that were acknowledged after the last durable step are lost."""

    run_id: str
    generation: int
    last_durable_step: int
    artifact_id: bytes | None
    lost_after_op_seq: int
    lost_through_op_seq: int
    lost_operations: int
    cause_code: str | None = None


@dataclass(frozen=True, slots=True)
class ForwardBackwardSubmitted(Event):
    """A batch, known here by its salted commitment, waits for its gradient."""

    run_id: str
    operation_id: bytes
    op_seq: int
    batch_commitment: bytes
    rows: int
    tokens: int
    interval: int | None = None


@dataclass(frozen=True, slots=True)
class ForwardBackwardCompleted(Event):
    """A batch's gradient was accumulated."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    loss: float
    grad_norm: float
    tokens: int


@dataclass(frozen=True, slots=True)
class ForwardSubmitted(Event):
    """A batch, known here by its salted commitment, waits to be evaluated."""

    run_id: str
    operation_id: bytes
    op_seq: int
    batch_commitment: bytes
    rows: int
    tokens: int
    interval: int | None = None


@dataclass(frozen=True, slots=True)
class ForwardCompleted(Event):
    """A batch was evaluated; its log-probabilities exist beside the ledger, known here by their salted commitment."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    loss: float
    tokens: int
    step: int
    logprobs_commitment: bytes


@dataclass(frozen=True, slots=True)
class OptimStepSubmitted(Event):
    """The accumulated gradient waits to be applied."""

    run_id: str
    operation_id: bytes
    op_seq: int
    learning_rate: float | None
    max_grad_norm: float | None = None


@dataclass(frozen=True, slots=True)
class StepApplied(Event):
    """The adapter moved one step; its digest and the plan that computed it."""

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
class SampleSubmitted(Event):
    """Prompts, known here by their salted commitment, wait for completions."""

    run_id: str
    operation_id: bytes
    op_seq: int
    prompts_commitment: bytes
    prompts: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    completions: int = 1
    logprobs: bool = False
    interval: int | None = None


@dataclass(frozen=True, slots=True)
class SampleCompleted(Event):
    """Completions exist beside the ledger; their salted commitment."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    completions_commitment: bytes
    tokens_generated: int
    step: int


@dataclass(frozen=True, slots=True)
class SaveStateSubmitted(Event):
    """A named checkpoint is asked for."""

    run_id: str
    operation_id: bytes
    op_seq: int
    name: str
    include_optimizer: bool


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Event):
    """A checkpoint is durable: encrypted, signed, read back."""

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
class LoadStateSubmitted(Event):
    """A checkpoint shall replace the run's state."""

    run_id: str
    operation_id: bytes
    op_seq: int
    artifact_id: bytes
    manifest_digest: bytes
    include_optimizer: bool
    step: int | None = None


@dataclass(frozen=True, slots=True)
class CheckpointLoaded(Event):
    """The run's state is a checkpoint's."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    artifact_id: bytes
    step: int
    adapter_digest: bytes


@dataclass(frozen=True, slots=True)
class OperationFailed(Event):
    """An operation ended without effect."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    kind: str
    code: str


@dataclass(frozen=True, slots=True)
class CancellationRequested(Event):
    """An operation shall not start if it has not yet."""

    run_id: str
    operation_id: bytes


@dataclass(frozen=True, slots=True)
class OperationCancelled(Event):
    """An operation was dropped before it started."""

    run_id: str
    operation_id: bytes
    lease_epoch: int
    kind: str


@dataclass(frozen=True, slots=True)
class RunClosed(Event):
    """The run takes no more operations."""

    run_id: str


@dataclass(frozen=True, slots=True)
class RunReplayed(Event):
    """A run's state was computed again from its last durable one.

    ``identical``: every step gave the digest that was recorded of it; else ``differing_step`` is the first that did
    not, and ``plan`` what it was computed with this time.
    """

    run_id: str
    lease_epoch: int
    through_op_seq: int
    steps: int
    adapter_digest: bytes
    identical: bool
    differing_step: int | None
    plan: ExecutionPlan | None


@dataclass(frozen=True, slots=True)
class BatchKeyDestroyed(Event):
    """The key of an interval's inputs is gone, and the inputs with it."""

    run_id: str
    interval: int
    through_op_seq: int


@dataclass(frozen=True, slots=True)
class ArtifactDeletionRequested(Event):
    """A checkpoint shall be deleted; nothing may load it any more."""

    run_id: str
    artifact_id: bytes


@dataclass(frozen=True, slots=True)
class ArtifactDeleted(Event):
    """A checkpoint and its key are gone."""

    run_id: str
    artifact_id: bytes


@dataclass(frozen=True, slots=True)
class ArtifactExportRequested(Event):
    """A checkpoint's weights are asked for in the clear."""

    run_id: str
    artifact_id: bytes
    manifest_digest: bytes
    export_id: bytes
    format: str


@dataclass(frozen=True, slots=True)
class ArtifactExported(Event):
    """An export's files exist: the SHA-256 of their list, and their bytes."""

    run_id: str
    export_id: bytes
    files_digest: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ArtifactExportFailed(Event):
    """An export could not be made."""

    run_id: str
    export_id: bytes
    code: str
