"""Typed values that go to a server and come back from it."""

from __future__ import annotations

from tg_tinker.types.config import (
    DPConfig,
    LoRAConfig,
    OptimizerConfig,
    SamplingConfig,
    TrainingConfig,
)
from tg_tinker.types.resources import (
    ArtifactInfo,
    AuditLogEntry,
    Commitment,
    Future,
    FutureStatus,
    ModelFacts,
    Package,
    Position,
    TokenizerFile,
    TokenizerInfo,
    TrainingClientInfo,
)
from tg_tinker.types.results import (
    EncryptionInfo,
    ForwardBackwardResult,
    ForwardResult,
    LoadStateResult,
    OperationResult,
    OptimStepResult,
    Sample,
    SampleDelta,
    SampledWith,
    SampleResult,
    SaveStateResult,
)

__all__ = [
    "ArtifactInfo",
    "AuditLogEntry",
    "Commitment",
    "DPConfig",
    "EncryptionInfo",
    "ForwardBackwardResult",
    "ForwardResult",
    "Future",
    "FutureStatus",
    "LoRAConfig",
    "LoadStateResult",
    "ModelFacts",
    "OperationResult",
    "OptimStepResult",
    "OptimizerConfig",
    "Package",
    "Position",
    "Sample",
    "SampleDelta",
    "SampleResult",
    "SampledWith",
    "SamplingConfig",
    "SaveStateResult",
    "TokenizerFile",
    "TokenizerInfo",
    "TrainingClientInfo",
    "TrainingConfig",
]
