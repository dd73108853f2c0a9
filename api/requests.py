"""What clients send. Unknown fields are refused, so that nothing that is asked for is silently left out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

MAX_INT = (1 << 63) - 1
ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
HEX16 = r"^[0-9a-f]{32}$"
HEX32 = r"^[0-9a-f]{64}$"
SGD = "sgd"

Seed = Annotated[int, Field(ge=0, le=MAX_INT)]
Generation = Annotated[
    int | None, Field(ge=0, le=MAX_INT, description="The run's generation that you have seen; None: any.")
]
Salt = Annotated[
    str | None, Field(pattern=r"^[0-9a-fA-F]{64}$", description="Salt of the commitment; None: the server draws one.")
]
Matrix = Annotated[
    Any, WithJsonSchema({"type": "array", "minItems": 1, "items": {"type": "array", "items": {"type": "integer"}}})
]


MaxGradNorm = Annotated[float | None, Field(gt=0, le=1e9)]
Weights = Annotated[
    Any,
    WithJsonSchema(
        {"type": "array", "minItems": 1, "items": {"type": "array", "items": {"type": "number", "minimum": 0}}}
    ),
]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("in UTC this lies beyond the years 1 to 9999") from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Metadata = Annotated[
    dict[str, Any],
    Field(
        description="Free JSON, up to 16 KiB and 32 levels. It is sealed under the tenant's key, never on the ledger."
    ),
]


class Request(BaseModel):
    """Strict: no unknown fields, no text where a number is meant, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class LoRAConfig(Request):
    """A low-rank adapter."""

    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0, le=1e6)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*-]{1,128}$")]] = Field(
        default=["q_proj", "k_proj", "v_proj", "o_proj"], min_length=1, max_length=64
    )
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = Field(default=False, description="Scale by alpha / sqrt(rank) instead of alpha / rank.")
    use_dora: bool = Field(default=False, description="Train each weight's magnitude apart from its direction.")


class OptimizerConfig(Request):
    """How gradients are applied."""

    name: Literal["adamw", "adam", "sgd", "adafactor"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0, le=10)
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(default=[0.9, 0.999], min_length=2, max_length=2)
    eps: float = Field(default=1e-8, gt=0, le=1)
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Of sgd.")
    max_grad_norm: MaxGradNorm = Field(default=None, description="Clip each step's gradient to this norm.")

    @field_validator("momentum")
    @classmethod
    def _is_of_sgd(cls, momentum: float, info: ValidationInfo) -> float:
        if momentum and info.data.get("name", SGD) != SGD:
            raise ValueError("sgd alone has a momentum")
        return momentum


class DPConfig(Request):
    """A privacy budget. No server of this version can keep one: enabled, it is refused."""

    enabled: bool = True
    noise_multiplier: float | None = Field(default=None, ge=0)
    max_grad_norm: float | None = Field(default=None, gt=0)
    target_epsilon: float | None = Field(default=None, gt=0)
    target_delta: float | None = Field(default=None, gt=0, lt=1)
    accountant_type: str | None = Field(default=None, max_length=64)


class TrainingConfig(Request):
    """A training client to be created."""

    model_ref: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,255}$", description="A name of the catalogue.")
    lora_config: LoRAConfig | None = Field(default_factory=LoRAConfig, description="null: train all weights.")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    dp_config: DPConfig | None = None
    batch_size: int = Field(default=1, ge=1, le=1 << 20)
    gradient_accumulation_steps: int | None = Field(
        default=None, ge=1, le=1 << 20, description="Exactly so many forward_backward before a step; null: any number."
    )
    max_steps: int | None = Field(default=None, ge=1, le=MAX_INT)
    batch_retention: Literal["sealed", "memory"] | None = Field(
        default=None,
        description="`sealed`: inputs are kept encrypted until nothing can need them. `memory`: they are never written "
        "down, and lost with the server. None: the server's choice.",
    )
    seed: Seed = 0
    start_artifact_id: str | None = Field(
        default=None, pattern=HEX16, description="A checkpoint whose weights the run begins from."
    )
    metadata: Metadata = Field(default_factory=dict)


class BatchBody(Request):
    """Token ids, which of them are attended to (0 or 1), labels (-100: none) and their weights; rows of one length."""

    input_ids: Matrix
    attention_mask: Matrix
    labels: Matrix
    weights: Weights = Field(default=None, description="Of each label in the loss; left out: 1.")


class ForwardBackwardRequest(Request):
    """Accumulate the gradient of a batch."""

    batch: BatchBody
    salt: Salt = None
    generation: Generation = None


class ForwardRequest(ForwardBackwardRequest):
    """Evaluate a batch without a gradient."""


class OptimStepRequest(Request):
    """Apply the accumulated gradient."""

    learning_rate: float | None = Field(default=None, gt=0, le=10, description="For this step; None: the run's own.")
    max_grad_norm: MaxGradNorm = Field(default=None, description="For this step; None: the run's own.")
    generation: Generation = None


class SamplingConfig(Request):
    """How completions are drawn: repetition penalty, temperature, top-k, top-p, min-p, in this order."""

    max_tokens: int = Field(default=64, ge=1, le=1 << 20)
    temperature: float = Field(default=1.0, ge=0, le=100, description="0 takes the likeliest token.")
    top_p: float = Field(default=1.0, gt=0, le=1, description="Keep the smallest likeliest set of this mass.")
    top_k: int = Field(default=0, ge=0, le=1 << 20, description="Keep so many of the likeliest tokens; 0: all.")
    min_p: float = Field(default=0.0, ge=0, le=1, description="Keep what has this share of the likeliest's chance.")
    repetition_penalty: float = Field(
        default=1.0, gt=0, le=100, description="Above 1 weakens tokens that the prompt or completion has."
    )
    n: int = Field(default=1, ge=1, le=64, description="Completions of each prompt.")
    logprobs: bool = Field(default=False, description="Give each token's log-probability by the model itself.")
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default=[], max_length=16, description="Texts before which a completion ends."
    )
    stop_tokens: list[Annotated[int, Field(ge=0, le=MAX_INT)]] = Field(
        default=[], max_length=64, description="Token ids before which a completion ends."
    )
    seed: Seed | None = Field(default=None, description="The same seed gives a prompt the same text.")


class Message(Request):
    """One turn of a conversation."""

    role: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    content: str = Field(max_length=1 << 18)


class SampleRequest(Request):
    """Complete texts, conversations by the model's chat template, or token ids; exactly one of the three."""

    prompts: list[Annotated[str, Field(min_length=1, max_length=1 << 18)]] | None = Field(
        default=None, min_length=1, max_length=64
    )
    messages: list[Annotated[list[Message], Field(min_length=1, max_length=1024)]] | None = Field(
        default=None, min_length=1, max_length=64
    )
    tokens: list[Annotated[list[Annotated[int, Field(ge=0, le=MAX_INT)]], Field(min_length=1)]] | None = Field(
        default=None, min_length=1, max_length=64
    )
    sampling_config: SamplingConfig = Field(default_factory=SamplingConfig)
    salt: Salt = None
    generation: Generation = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(each is not None for each in (self.prompts, self.messages, self.tokens)) != 1:
            raise ValueError("give one of prompts, messages and tokens")
        return self


class SamplerConfig(Request):
    """A sampler to be opened: on a model of the catalogue as it is, or on a checkpoint; exactly one of the two."""

    model_ref: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,255}$", description="A name of the catalogue."
    )
    artifact_id: str | None = Field(default=None, pattern=HEX16)
    seed: Seed = 0
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model_ref is None) == (self.artifact_id is None):
            raise ValueError("give one of model_ref and artifact_id")
        return self


class SaveStateRequest(Request):
    """Save a named checkpoint."""

    name: str = Field(pattern=ID)
    include_optimizer: bool = True
    metadata: Metadata = Field(default_factory=dict)
    generation: Generation = None


class LoadStateRequest(Request):
    """Load a checkpoint of this tenant."""

    artifact_id: str = Field(pattern=HEX16)
    include_optimizer: bool = True
    generation: Generation = None


class ExportRequest(Request):
    """Hand out a checkpoint's weights in the clear."""

    format: Literal["peft", "merged"] = Field(
        default="peft", description="A PEFT folder, or the base model with the weights merged into it."
    )


class PackageRequest(Request):
    """Package a checkpoint for devices, which are named by their key ids."""

    artifact_id: str = Field(pattern=HEX16)
    recipients: list[Annotated[str, Field(pattern=HEX32)]] = Field(min_length=1, max_length=64)
    release_counter: int = Field(default=0, ge=0, le=MAX_INT)
    expires_at: Moment | None = Field(default=None, strict=False, description="RFC 3339 with an offset.")
