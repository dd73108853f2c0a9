"""Which layers of a model an adapter may stand around."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peft import LoraConfig
from torch.nn import Linear
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from torch.nn import Module

    from schemas.types import LoraSpec

ALL_LINEAR = "all-linear"


def lora_config(lora: LoraSpec) -> LoraConfig:
    """Settings of an adapter as peft has them.

    Without target modules, or with "all-linear", every linear layer but the output gets one. In a mixture of experts
    that is attention, router and experts, whose fused weights peft adapts as parameters.
    """
    targets = lora.target_modules or (ALL_LINEAR,)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides by it: any number will do
        lora_dropout=lora.dropout,
        bias=lora.bias,  # type: ignore[arg-type]  # the ledger's decider holds it to peft's three words
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        target_modules=ALL_LINEAR if ALL_LINEAR in targets else list(targets),
    )


def has_fused_weights(model: Module) -> bool:
    """Whether a parameter holds the matrices of several experts."""
    return any(parameter.dim() > 2 for parameter in model.parameters())  # noqa: PLR2004 -- a matrix has two


def plain_modules(model: Module) -> set[str]:
    """The names, without their paths, that only linear layers have."""
    linear: set[str] = set()
    other: set[str] = set()
    for path, module in model.named_modules():
        kind: Any = linear if isinstance(module, Linear | Conv1D) else other
        kind.add(path.rpartition(".")[2])
    return linear - other
