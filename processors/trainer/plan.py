"""What a bit-identical replay must have equal, written down with every step."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import torch

from schemas.types import ExecutionPlan

if TYPE_CHECKING:
    from processors.trainer.base_model import SharedBase

_BUILD = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "peft"))


def execution_plan(base: SharedBase, micro_batches: int) -> ExecutionPlan:
    """The plan of a step whose gradient was computed in so many micro-batches."""
    return ExecutionPlan(
        build=_BUILD,
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        micro_batches=micro_batches,
        dtype=str(next(base.base.parameters()).dtype).removeprefix("torch."),
        kernels=f"attention {base.attention}, adamw fused, device {base.device.type}",
    )
