"""What a bit-identical replay must have equal, written down with every step."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import torch

from schemas.types import ExecutionPlan

if TYPE_CHECKING:
    from processors.trainer.adapter import Adapter
    from processors.trainer.base_model import SharedBase

_BUILD = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "peft"))


def execution_plan(adapter: Adapter, micro_batches: int) -> ExecutionPlan:
    """The plan of a step whose gradient was computed in so many micro-batches."""
    base = adapter.base
    return ExecutionPlan(
        build=_BUILD,
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        micro_batches=micro_batches,
        dtype=base.dtype,
        kernels=", ".join(_kernels(base, _optimizer(adapter))),
    )


def _kernels(base: SharedBase, optimizer: str) -> list[str]:
    named = [
        f"attention {base.attention}",
        optimizer,
        f"device {_device(base.device)}",
    ]
    if base.compute.gradient_checkpointing:
        named.append("gradient checkpointing")
    if torch.are_deterministic_algorithms_enabled():
        named.append("deterministic")
    return named


def _optimizer(adapter: Adapter) -> str:
    return f"{adapter.spec.name} fused" if adapter.optimizer.defaults.get("fused") else adapter.spec.name


def _device(device: torch.device) -> str:
    return f"{device.type} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
