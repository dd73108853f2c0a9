"""What a caller configures. A misspelt field is refused here, before anything is sent."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of what callers write: immutable, without unknown fields, without NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class LoRAConfig(Settings):
    """A low-rank adapter: ``alpha / rank`` scales it, ``target_modules`` are the layers that get one.

    ``use_rslora`` scales by ``alpha / sqrt(rank)`` instead (Kalajdzievski, arXiv:2312.03732); ``use_dora`` trains the
    magnitude of each weight apart from its direction (Liu et al., arXiv:2402.09353). ``target_modules=("all-linear",)``
    takes every linear layer but the output.
    """

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = False
    use_dora: bool = False


class OptimizerConfig(Settings):
    """How gradients are applied. ``momentum`` is sgd's; ``max_grad_norm`` clips the gradient of every step."""

    name: Literal["adamw", "adam", "sgd", "adafactor"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    max_grad_norm: float | None = Field(default=None, gt=0)


class DPConfig(Settings):
    """A privacy budget. A server that cannot keep it refuses the run; it is never ignored."""

    enabled: bool = True
    noise_multiplier: float | None = Field(default=None, ge=0)
    max_grad_norm: float | None = Field(default=None, gt=0)
    target_epsilon: float | None = Field(default=None, gt=0)
    target_delta: float | None = Field(default=None, gt=0, lt=1)
    accountant_type: str | None = None


class SamplingConfig(Settings):
    """How completions are drawn; what is off by default leaves the model's own distribution alone.

    In this order: ``repetition_penalty`` (1: off) weakens tokens that prompt or completion have, ``temperature`` 0
    takes the likeliest token, ``top_k`` (0: off) keeps the likeliest tokens, ``top_p`` (1: off) the smallest likeliest
    set of that mass, ``min_p`` (0: off) those with that share of the likeliest one's chance.

    ``n`` completions are made of each prompt; ``stop`` and ``stop_tokens`` end one and are not in its text. The same
    ``seed`` gives a prompt the same text, whatever it is sampled together with; ``logprobs`` asks for each token's
    log-probability by the model itself.
    """

    max_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    n: int = Field(default=1, ge=1)
    logprobs: bool = False
    stop: tuple[str, ...] = ()
    stop_tokens: tuple[int, ...] = ()
    seed: int | None = Field(default=None, ge=0)


class TrainingConfig(Settings):
    """A training run on a model of the server's catalogue.

    ``lora_config=None`` asks for full fine-tuning. The same seed, inputs and machine give the same adapter.
    ``gradient_accumulation_steps`` is how many ``forward_backward`` come before each step (None: as many as you like).
    ``start_artifact_id`` names a checkpoint of the same model and shape whose weights the run begins from.
    ``batch_retention`` says what a killed server leaves of the inputs that no checkpoint covers yet: ``sealed`` keeps
    them encrypted until one does, so that nothing is lost; ``memory`` writes none of them to a disk, so that a run goes
    back to its last durable step; None takes the server's default.
    ``metadata`` is free JSON, sealed under the tenant's key and never on the ledger.
    """

    model_ref: str = Field(min_length=1)
    lora_config: LoRAConfig | None = Field(default_factory=LoRAConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    dp_config: DPConfig | None = None
    batch_size: int = Field(default=1, ge=1)
    gradient_accumulation_steps: int | None = Field(default=None, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    start_artifact_id: str | None = None
    batch_retention: Literal["sealed", "memory"] | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
