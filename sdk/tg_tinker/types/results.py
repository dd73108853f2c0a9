"""What the operations give back. Fields that a newer server adds are left out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of what a server says: immutable; unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class ForwardBackwardResult(Answer):
    """An accumulated gradient.

    ``loss`` is the mean over the labels that count, ``grad_norm`` the norm of what is accumulated so far.
    """

    loss: float
    grad_norm: float
    tokens_processed: int
    dp_metrics: dict[str, Any] | None = None


class ForwardResult(Answer):
    """An evaluated batch.

    ``loss`` is the weighted mean over the labels that count; ``logprobs`` is, per row and position of the batch, the
    log-probability of the token there given those before it (None at a row's first token and at padding).
    """

    loss: float
    tokens_processed: int
    logprobs: tuple[tuple[float | None, ...], ...]


class OptimStepResult(Answer):
    """An applied step; steps count from 1. ``grad_norm`` is the norm of its gradient before it was clipped."""

    step: int
    learning_rate: float
    grad_norm: float = 0.0
    clipped: bool = False
    dp_metrics: dict[str, Any] | None = None


class Sample(Answer):
    """A completion and why it ended: ``stop`` (the model ended it), ``length``, ``stop_string`` or ``stop_token``.

    ``token_ids`` and ``logprobs`` (None unless asked for) are of every generated token, the ending ones included;
    ``prompt`` is None where messages or tokens were given.
    """

    prompt_index: int = 0
    completion_index: int = 0
    prompt: str | None = None
    completion: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    tokens_generated: int
    finish_reason: str


class SampleDelta(Answer):
    """What a completion grew by while it was sampled; ``finish_reason`` comes with its last one."""

    prompt_index: int
    completion_index: int
    text: str
    finish_reason: str | None = None


class SampledWith(Answer):
    """The settings that completions were drawn with."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    n: int = 1
    logprobs: bool = False
    seed: int | None = None


class SampleResult(Answer):
    """Completions in the order of their prompts, drawn at step ``model_step``."""

    samples: tuple[Sample, ...]
    model_step: int
    sampling_config: SampledWith


class EncryptionInfo(Answer):
    """How an artifact is sealed, and under which of the tenant's keys."""

    algorithm: str
    key_id: str


class SaveStateResult(Answer):
    """A durable checkpoint; ``content_hash`` is the SHA-256 of its encrypted payload."""

    artifact_id: str
    artifact_type: str
    size_bytes: int
    encryption: EncryptionInfo
    content_hash: str
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime


class LoadStateResult(Answer):
    """A loaded checkpoint; the run goes on from its step."""

    artifact_id: str
    step: int
    adapter_digest: str


OperationResult = (
    ForwardBackwardResult | ForwardResult | OptimStepResult | SampleResult | SaveStateResult | LoadStateResult
)
Kind = Literal["forward_backward", "forward", "optim_step", "sample", "save_state", "load_state"]

RESULT_OF: Mapping[str, type[OperationResult]] = {
    "forward_backward": ForwardBackwardResult,
    "forward": ForwardResult,
    "optim_step": OptimStepResult,
    "sample": SampleResult,
    "save_state": SaveStateResult,
    "load_state": LoadStateResult,
}
"""The type of the result of each kind of operation."""
