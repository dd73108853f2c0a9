from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.edge.device import Device
from tests.support.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, tiny Llama."""
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def device(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device with a real package for it on a real ledger; tests must not change what they share."""
    device = Device(model_folder, tmp_path_factory.mktemp("shop"))
    yield device
    device.shop.close()
