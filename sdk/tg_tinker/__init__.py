"""The training client of TensorGuardFlow: fine-tune private language models from anywhere.

Start at :class:`ServiceClient`; every error is a :class:`tg_tinker.errors.TGTinkerError`.
"""

from __future__ import annotations

from tg_tinker import errors
from tg_tinker.errors import TGTinkerError
from tg_tinker.futures import AsyncFutureHandle, FutureHandle
from tg_tinker.retry import RetryPolicy
from tg_tinker.sampling_client import SamplingClient
from tg_tinker.service_client import ServiceClient
from tg_tinker.tokenizer import ChatTokens, Tokenizer
from tg_tinker.training_client import TrainingClient
from tg_tinker.types import (
    ArtifactInfo,
    AuditLogEntry,
    Commitment,
    DPConfig,
    EncryptionInfo,
    ForwardBackwardResult,
    ForwardResult,
    Future,
    LoadStateResult,
    LoRAConfig,
    ModelInfo,
    OptimizerConfig,
    OptimStepResult,
    Package,
    Sample,
    SampleDelta,
    SampleResult,
    SamplerInfo,
    SamplingConfig,
    SaveStateResult,
    TrainingClientInfo,
    TrainingConfig,
)

__all__ = [
    "ArtifactInfo",
    "AsyncFutureHandle",
    "AuditLogEntry",
    "ChatTokens",
    "Commitment",
    "DPConfig",
    "EncryptionInfo",
    "ForwardBackwardResult",
    "ForwardResult",
    "Future",
    "FutureHandle",
    "LoRAConfig",
    "LoadStateResult",
    "ModelInfo",
    "OptimStepResult",
    "OptimizerConfig",
    "Package",
    "RetryPolicy",
    "Sample",
    "SampleDelta",
    "SampleResult",
    "SamplerInfo",
    "SamplingClient",
    "SamplingConfig",
    "SaveStateResult",
    "ServiceClient",
    "TGTinkerError",
    "Tokenizer",
    "TrainingClient",
    "TrainingClientInfo",
    "TrainingConfig",
    "errors",
]
