"""Values that events and commands share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a registered model."""

    path: str
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """Low-rank adapter settings."""

    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    bias: str
    use_rslora: bool = False
    use_dora: bool = False


@dataclass(frozen=True, slots=True)
class OptimizerSpec:
    """Optimizer settings of a run."""

    name: str
    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    momentum: float = 0.0
    max_grad_norm: float | None = None


@dataclass(frozen=True, slots=True)
class StartSpec:
    """The checkpoint that a run begins from: its weights, never its optimizer."""

    artifact_id: bytes
    manifest_digest: bytes
    step: int


@dataclass(frozen=True, slots=True)
class ExecutionPlan:
    """What a bit-identical replay must have equal."""

    build: str
    instruction_set: str
    threads: int
    micro_batches: int
    dtype: str
    kernels: str
