"""Optimizers: what they compute, what of them a checkpoint holds, what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.errors import CheckpointMismatchError, NonFiniteLossError
from processors.trainer.plan import execution_plan
from processors.trainer.tensors import pack, unpack
from schemas.types import LoraSpec, OptimizerSpec
from tests.support.tiny_model import build_tiny_model
from tests.trainer.batches import random_rows
from tests.trainer.conftest import ADAMW, LORA
from tests.trainer.hand_loop import SEED, hand_written, trained

if TYPE_CHECKING:
    from pathlib import Path

BATCHES = [[random_rows(1), random_rows(2, (4, 17))], [random_rows(3, (20,))], [random_rows(4)]]
GENTLE = replace(ADAMW, eps=1e-4, learning_rate=1e-3)
OPTIMIZERS = {
    "adamw": GENTLE,
    "adam": replace(GENTLE, name="adam"),
    "sgd": replace(GENTLE, name="sgd"),
    "sgd with momentum": replace(GENTLE, name="sgd", momentum=0.9),
    "adafactor": replace(GENTLE, name="adafactor"),
}
SHAPES: dict[str, LoraSpec | None] = {"lora": LORA, "dora": replace(LORA, use_dora=True), "full": None}
optimizers = pytest.mark.parametrize("spec", OPTIMIZERS.values(), ids=OPTIMIZERS)
shapes = pytest.mark.parametrize("lora", SHAPES.values(), ids=SHAPES)


@optimizers
@pytest.mark.parametrize("clip", [None, 0.05], ids=["whole", "clipped"])
def test_steps_equal_a_hand_written_loops(
    spec: OptimizerSpec, clip: float | None, base: SharedBase, model_dir: Path
) -> None:
    spec = replace(spec, max_grad_norm=clip)
    adapter = Adapter(base, LORA, spec, SEED)
    losses = trained(adapter, BATCHES)
    wanted_losses, wanted = hand_written(model_dir, BATCHES, LORA, spec)
    assert losses == pytest.approx(wanted_losses, abs=1e-5)
    for name, tensor in wanted.items():
        torch.testing.assert_close(adapter.weights()[name].cpu(), tensor, atol=1e-5, rtol=0)


@optimizers
@shapes
def test_a_restored_run_goes_on_bit_for_bit(spec: OptimizerSpec, lora: LoraSpec | None, base: SharedBase) -> None:
    uninterrupted, first = Adapter(base, lora, spec, SEED), Adapter(base, lora, spec, SEED)
    trained(uninterrupted, BATCHES)
    trained(first, BATCHES[:2])
    image = pack(first.tensors(include_optimizer=True), {})
    resumed = Adapter(base, lora, spec, SEED + 1)
    resumed.restore(unpack(image)[0], step=2, through_op_seq=5, include_optimizer=True)
    assert _state(resumed) == _state(first)
    trained(resumed, BATCHES[2:], first_op=6)
    assert _state(resumed) == _state(uninterrupted)


def _state(adapter: Adapter) -> dict[str, bytes]:
    return {name: t.cpu().numpy().tobytes() for name, t in adapter.tensors(include_optimizer=True).items()}


@optimizers
def test_a_ruinous_step_is_refused_and_changes_nothing(spec: OptimizerSpec, base: SharedBase) -> None:
    adapter = Adapter(base, LORA, spec, SEED)
    trained(adapter, BATCHES[:1])
    for call in range(2):
        forward_backward(adapter, random_rows(call), seed=call)
    before = _state(adapter)
    if spec.name != "adafactor":  # whose own rate never exceeds one over the square root of the step
        with pytest.raises(NonFiniteLossError):
            optim_step(adapter, 9, 1e300)
        assert _state(adapter) == before
        assert (adapter.step, adapter.calls) == (1, 2)
    optim_step(adapter, 10)
    assert adapter.step == 2


@optimizers
def test_a_gradient_that_is_not_finite_is_refused(spec: OptimizerSpec, base: SharedBase) -> None:
    adapter = Adapter(base, LORA, spec, SEED)
    trained(adapter, BATCHES[:1])
    forward_backward(adapter, random_rows(1), seed=1)
    next(iter(adapter.gradients.values())).fill_(float("nan"))
    before = _state(adapter)
    with pytest.raises(NonFiniteLossError):
        optim_step(adapter, 9)
    assert _state(adapter) == before


@optimizers
def test_the_careful_way_of_a_step_computes_what_the_short_one_does(
    spec: OptimizerSpec, base: SharedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, careful = Adapter(base, LORA, spec, SEED), Adapter(base, LORA, spec, SEED)
    trained(short, BATCHES)
    monkeypatch.setattr(Adapter, "is_tame", lambda *_: False)
    trained(careful, BATCHES)
    assert _state(short) == _state(careful)


def test_numbers_near_the_end_of_float32_take_the_careful_way(base: SharedBase) -> None:
    adapter = Adapter(base, LORA, GENTLE, SEED)
    trained(adapter, BATCHES[:1])
    assert adapter.is_tame(1e-3, 1.0)
    assert not adapter.is_tame(1e30, 1.0)
    assert not adapter.is_tame(1e-3, float("inf"))
    assert not adapter.is_tame(1e-3, float("nan"))
    weight = next(iter(adapter.parameters.values()))
    for value in (1e30, float("nan"), float("inf")):
        kept = weight.data[0, 0].item()
        weight.data[0, 0] = value
        assert not adapter.is_tame(1e-3, 1.0)
        weight.data[0, 0] = kept
    adapter.optimizer.state[weight]["exp_avg_sq"][0, 0] = float("nan")
    assert not adapter.is_tame(1e-3, 1.0)


def test_a_step_that_a_bias_in_float16_does_not_hold_is_refused(tmp_path: Path) -> None:
    base = SharedBase(build_tiny_model(tmp_path / "half", biases=True), dtype="float16")
    adapter = Adapter(base, replace(LORA, bias="all"), OPTIMIZERS["sgd"], SEED)
    name = next(name for name, held in adapter.parameters.items() if held.dtype == torch.float16)
    adapter.gradients = {name: torch.zeros_like(adapter.parameters[name])}
    adapter.gradients[name][0], adapter.calls = 6e4, 1
    before = _state(adapter)
    with pytest.raises(NonFiniteLossError):
        optim_step(adapter, 1, 10.0)
    assert _state(adapter) == before


@optimizers
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_biases_of_16_bits_are_trained(spec: OptimizerSpec, dtype: str, tmp_path: Path) -> None:
    base = SharedBase(build_tiny_model(tmp_path / "half", biases=True), dtype=dtype)
    adapter = Adapter(base, replace(LORA, bias="all"), spec, SEED)
    adapter.gradients = {name: torch.ones_like(held) for name, held in adapter.parameters.items()}
    adapter.calls = 1
    fused = spec.name in ("adam", "adamw")
    assert (f"{spec.name} fused" in execution_plan(adapter, 1).kernels) == fused
    before = {name: held.clone() for name, held in adapter.weights().items()}
    optim_step(adapter, 1, 1.0)
    assert [name for name, held in adapter.weights().items() if torch.equal(held, before[name])] == []


def test_another_optimizers_state_is_not_taken(base: SharedBase) -> None:
    tensors = {}
    for name, spec in OPTIMIZERS.items():
        adapter = Adapter(base, LORA, spec, SEED)
        trained(adapter, BATCHES[:1])
        tensors[name] = adapter.tensors(include_optimizer=True)
    for one, other in (("adamw", "sgd with momentum"), ("sgd with momentum", "adafactor"), ("adafactor", "adamw")):
        adapter = Adapter(base, LORA, OPTIMIZERS[one], SEED)
        with pytest.raises(CheckpointMismatchError):
            adapter.restore(tensors[other], step=1, through_op_seq=2, include_optimizer=True)


def test_a_step_says_the_norm_before_clipping(base: SharedBase) -> None:
    adapter = Adapter(base, LORA, replace(GENTLE, max_grad_norm=1e6), SEED)
    call = forward_backward(adapter, random_rows(1), seed=1)
    step = optim_step(adapter, 2)
    assert step.grad_norm == pytest.approx(call.grad_norm)
    assert not step.clipped
    call = forward_backward(adapter, random_rows(1), seed=1)
    step = optim_step(adapter, 4, max_grad_norm=call.grad_norm / 2)
    assert step.grad_norm == pytest.approx(call.grad_norm)
    assert step.clipped
