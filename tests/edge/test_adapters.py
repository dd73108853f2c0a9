"""What was trained is what a device runs, whatever the adapter consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.artifact import LoraSettings
from tensorguard.tgsp import tensors

from edge.inference import Runner
from edge.opening import Weights
from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.compute import forward_backward, optim_step
from processors.trainer.sampling import SampleJob, Sampling, complete
from processors.trainer.tensors import pack
from schemas.types import LoraSpec, OptimizerSpec
from tests.support.tiny_model import build_tiny_model
from tests.trainer.batches import random_rows

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = ("q_proj", "v_proj")


WAYS: dict[str, dict[str, Any]] = {
    "plain": {"bias": "none"},
    "with the biases of its layers": {"bias": "lora_only"},
    "with all biases": {"bias": "all"},
    "rslora": {"bias": "none", "use_rslora": True},
    "dora": {"bias": "none", "use_dora": True},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_device_completes_as_the_trainer_does(way: dict[str, Any], tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "biased", biases=True)
    optimizer = OptimizerSpec("adamw", 2e-2, 0.01, 0.9, 0.999, 1e-8)
    adapter = Adapter(SharedBase(model), LoraSpec(4, 8.0, 0.0, TARGETS, **way), optimizer, 7)
    for op_seq in range(4):
        forward_backward(adapter, random_rows(op_seq), seed=op_seq)
        optim_step(adapter, op_seq)
    image = pack(adapter.weights(), {})
    lora = LoraSettings(rank=4, alpha=8.0, dropout=0.0, target_modules=list(TARGETS), **way)
    runner = Runner(model, lora)
    runner.attach(Weights(memoryview(image), tensors.parse(image)[0], locked=True))
    base = adapter.base
    job = SampleJob(bytes(16), adapter.name, [base.encode("to be")], Sampling(20, 0.0))
    found, wanted = runner.sample("to be", 20), complete(base, job)[0]
    assert found.completion == wanted.text
    assert (found.tokens_generated, found.finish_reason) == (len(wanted.tokens), wanted.finish_reason)
    runner.detach()
