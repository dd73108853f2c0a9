"""Where and how a trainer computes, and what of that stands in the plan of each step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from tensorguard.errors import UsageError

from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.device import Compute, device_of, machine_bytes, memory_of, prepare
from processors.trainer.plan import execution_plan
from tests.trainer.batches import random_rows
from tests.trainer.conftest import ADAMW, LORA
from tests.trainer.hand_loop import SEED, trained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas.types import LoraSpec

BATCHES = [[random_rows(1)], [random_rows(2), random_rows(3)]]


def _trained(model_dir: Path, compute: Compute, lora: LoraSpec | None = LORA) -> Adapter:
    adapter = Adapter(SharedBase(model_dir, compute), lora, ADAMW, SEED)
    trained(adapter, BATCHES)
    return adapter


def test_trainers_of_a_machine_share_its_memory(device: str) -> None:
    assert memory_of(device, 4) == memory_of(device) // 4 > 0


LIMITS = {
    "none": ({}, None),
    "one of this version": ({"memory.max": "1000\n"}, 1000),
    "one of the version before": ({"memory/memory.limit_in_bytes": "2000\n"}, 2000),
    "no limit": ({"memory.max": "max\n"}, None),
    "more than there is": ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
}


@pytest.mark.parametrize(("files", "limit"), LIMITS.values(), ids=LIMITS)
def test_a_containers_limit_counts_where_it_is_less_than_the_machine_has(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine_bytes(tmp_path) == (limit or machine_bytes(tmp_path / "nothing"))


@pytest.mark.parametrize("lora", [LORA, replace(LORA, use_dora=True), None], ids=["lora", "dora", "full"])
def test_gradient_checkpointing_computes_the_same(lora: LoraSpec | None, device: str, model_dir: Path) -> None:
    plain = _trained(model_dir, Compute(device), lora)
    again = _trained(model_dir, Compute(device, gradient_checkpointing=True), lora)
    for name, tensor in plain.weights().items():
        torch.testing.assert_close(again.weights()[name], tensor, atol=1e-6, rtol=1e-4)
    assert "gradient checkpointing" in execution_plan(again, 1).kernels
    assert "gradient checkpointing" not in execution_plan(plain, 1).kernels


def test_the_plan_says_which_attention_and_optimizer_computed(device: str, model_dir: Path) -> None:
    adapter = Adapter(SharedBase(model_dir, Compute(device, "eager")), LORA, replace(ADAMW, name="adafactor"), SEED)
    plan = execution_plan(adapter, 3)
    assert (plan.micro_batches, plan.dtype) == (3, "float32")
    assert plan.kernels.startswith(f"attention eager, adafactor, device {device}")
    half = Adapter(SharedBase(model_dir, Compute(device), "bfloat16"), LORA, ADAMW, SEED)
    assert execution_plan(half, 1).dtype == "bfloat16"
    assert "adamw fused" in execution_plan(half, 1).kernels


@pytest.fixture
def _deterministic() -> Iterator[None]:
    prepare(Compute(deterministic=True))
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.usefixtures("_deterministic")
def test_deterministic_kernels_train_and_stand_in_the_plan(device: str, model_dir: Path) -> None:
    one, other = (_trained(model_dir, Compute(device, deterministic=True)) for _ in range(2))
    assert one.digest() == other.digest()
    assert "deterministic" in execution_plan(one, 1).kernels


def test_the_same_seed_and_inputs_give_the_same_bits(model_dir: Path) -> None:
    assert _trained(model_dir, Compute()).digest() == _trained(model_dir, Compute()).digest()


def test_a_device_that_is_not_there_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match="cuda:99"):
        device_of("cuda:99")
    assert device_of("auto").type in ("cpu", "cuda")
