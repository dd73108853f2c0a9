from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.doors import Doors, copy_installation, open_doors, prepare_installation


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_installation(tmp_path_factory.mktemp("installed") / "data")


@pytest.fixture
def data_dir(installed: Path, tmp_path: Path) -> Path:
    return copy_installation(installed, tmp_path / "data")


@pytest.fixture
def doors(data_dir: Path) -> Iterator[Doors]:
    with open_doors(data_dir) as opened:
        yield opened
