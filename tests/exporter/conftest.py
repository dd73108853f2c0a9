from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from producers.installation import Installation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation.open(tmp_path_factory.mktemp("shop") / "data")
    yield installation
    installation.close()
