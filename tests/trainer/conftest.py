from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.device import Compute
from schemas.types import LoraSpec, OptimizerSpec
from tests.support.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LORA = LoraSpec(rank=4, alpha=8.0, dropout=0.1, target_modules=("q_proj", "v_proj", "down_proj"), bias="none")
ADAMW = OptimizerSpec(name="adamw", learning_rate=5e-3, weight_decay=0.01, beta1=0.9, beta2=0.999, eps=1e-8)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Every device that this machine has."""
    return str(request.param)


@pytest.fixture
def base(model_dir: Path, device: str) -> SharedBase:
    return SharedBase(model_dir, Compute(device))


@pytest.fixture
def new_adapter(base: SharedBase) -> Callable[..., Adapter]:
    def make(seed: int = 7, lora: LoraSpec = LORA, optimizer: OptimizerSpec = ADAMW) -> Adapter:
        return Adapter(base, lora, optimizer, seed)

    return make
