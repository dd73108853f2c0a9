"""Every family of models, adapted or trained whole, does what a hand-written loop does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.device import Compute
from processors.trainer.errors import OperationFailedError
from schemas.types import LoraSpec, OptimizerSpec
from tests.support.tiny_model import FAMILIES, build_tiny_model
from tests.trainer.batches import random_rows
from tests.trainer.conftest import ADAMW
from tests.trainer.hand_loop import SEED, hand_written, trained

if TYPE_CHECKING:
    from pathlib import Path

BATCHES = [[random_rows(1), random_rows(2, (4, 17))], [random_rows(3, (20,))]]
ALL_LINEAR = LoraSpec(4, 8.0, 0.1, ("all-linear",), "none")
WAYS: dict[str, LoraSpec | None] = {
    "lora": ALL_LINEAR,
    "rslora": replace(ALL_LINEAR, use_rslora=True),
    "dora": replace(ALL_LINEAR, use_dora=True),
    "full": None,
}
EXPERTS = replace(ALL_LINEAR, dropout=0.0)
"""Peft adapts fused weights as parameters, which know no dropout."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: build_tiny_model(root / family, family=family) for family in FAMILIES}


def _fitting(lora: LoraSpec | None, family: str) -> LoraSpec | None:
    if lora is None or family != "mixtral":
        return lora
    return replace(lora, target_modules=("q_proj", "v_proj")) if lora.use_dora else replace(lora, dropout=0.0)


def _hold_to_hand_loop(directory: Path, lora: LoraSpec | None, spec: OptimizerSpec, base: SharedBase) -> None:
    adapter = Adapter(base, lora, spec, SEED)
    losses = trained(adapter, BATCHES)
    wanted_losses, wanted = hand_written(directory, BATCHES, lora, spec)
    assert losses == pytest.approx(wanted_losses, abs=1e-5)
    weights = adapter.weights()
    assert weights.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(weights[name].cpu(), tensor, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
def test_losses_and_weights_equal_a_hand_written_loop(
    way: str, family: str, device: str, models: dict[str, Path]
) -> None:
    # Adam's first steps go by the sign of a gradient, and a gradient that is almost zero has none worth the name.
    spec = replace(ADAMW, eps=1e-4)
    base = SharedBase(models[family], Compute(device))
    _hold_to_hand_loop(models[family], _fitting(WAYS[way], family), spec, base)


def test_all_linear_reaches_attention_router_and_experts(models: dict[str, Path]) -> None:
    adapter = Adapter(SharedBase(models["mixtral"]), EXPERTS, ADAMW, SEED)
    first = {name.split("layers.0.")[1].split(".lora_")[0] for name in adapter.parameters if "layers.0." in name}
    attention = {f"self_attn.{letter}_proj" for letter in "qkvo"}
    assert first == attention | {"mlp.gate", "mlp.experts", "mlp.experts.base_layer"}


def test_runs_on_different_parts_of_the_experts_stand_side_by_side(models: dict[str, Path]) -> None:
    base = SharedBase(models["mixtral"])
    some = replace(EXPERTS, target_modules=("q_proj", "gate"))
    alone = {lora: Adapter(SharedBase(models["mixtral"]), lora, ADAMW, SEED) for lora in (EXPERTS, some)}
    beside = {lora: Adapter(base, lora, ADAMW, SEED) for lora in (EXPERTS, some)}
    for lora in (EXPERTS, some):
        assert trained(beside[lora], BATCHES) == trained(alone[lora], BATCHES)
        assert beside[lora].digest() == alone[lora].digest()


def test_experts_cannot_be_decomposed(models: dict[str, Path]) -> None:
    with pytest.raises(OperationFailedError):
        Adapter(SharedBase(models["mixtral"]), replace(EXPERTS, use_dora=True), ADAMW, SEED)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_run_of_all_weights_leaves_the_base_and_other_runs_alone(family: str, models: dict[str, Path]) -> None:
    base = SharedBase(models[family])
    before = {name: p.detach().clone() for name, p in base.base.named_parameters()}
    whole, adapted = Adapter(base, None, ADAMW, SEED), Adapter(base, ALL_LINEAR, ADAMW, SEED)
    trained(whole, BATCHES)
    trained(adapted, BATCHES)
    alone = Adapter(SharedBase(models[family]), ALL_LINEAR, ADAMW, SEED)
    trained(alone, BATCHES)
    assert adapted.digest() == alone.digest()
    assert all(torch.equal(before[name], p) for name, p in base.base.named_parameters())
    assert any(not torch.equal(before[name], tensor) for name, tensor in whole.weights().items())


def test_tied_weights_stay_one(models: dict[str, Path]) -> None:
    base = SharedBase(models["gpt2"])
    whole = Adapter(base, None, ADAMW, SEED)
    trained(whole, BATCHES)
    model = base.activate(whole.name, training=False)
    assert model.get_parameter("lm_head.weight") is model.get_parameter("transformer.wte.weight")
    assert "lm_head.weight" not in whole.parameters


def test_adapters_on_a_base_of_less_precision_are_float32(models: dict[str, Path]) -> None:
    base = SharedBase(models["llama"], dtype="bfloat16")
    for lora in (ALL_LINEAR, replace(ALL_LINEAR, use_dora=True), None):
        adapter = Adapter(base, lora, ADAMW, SEED)
        losses = trained(adapter, BATCHES)
        assert {tensor.dtype for tensor in adapter.tensors(include_optimizer=True).values()} == {torch.float32}
        assert losses == pytest.approx(
            trained(Adapter(SharedBase(models["llama"]), lora, ADAMW, SEED), BATCHES), abs=0.1
        )
    assert base.base.dtype == torch.bfloat16
