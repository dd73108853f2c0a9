"""What a client asks of a run, and what its worker reports."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Command
from schemas.types import ExecutionPlan, LoraSpec, OptimizerSpec


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
    gradient_accumulation_steps: int
    max_steps: int | None
    seed: int
    metadata_commitment: bytes | None


@dataclass(frozen=True, slots=True)
class GrantLease(Command):
    """Let one worker report the outcomes of a run."""

    run_id: str
    worker: str


@dataclass(frozen=True, slots=True)
class SubmitForwardBackward(Command):
    """Accumulate the gradient of a batch."""

    run_id: str
    batch_commitment: bytes
    rows: int
    tokens: int
    generation: int | None


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
class SubmitOptimStep(Command):
    """Apply the accumulated gradient."""

    run_id: str
    learning_rate: float | None
    generation: int | None


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
