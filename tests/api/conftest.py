from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.installation import Installation
from tests.support.doors import Doors, copy_installation, open_doors


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("installed") / "data"
    Installation.open(data_dir).close()
    return data_dir


@pytest.fixture
def data_dir(installed: Path, tmp_path: Path) -> Path:
    return copy_installation(installed, tmp_path / "data")


@pytest.fixture
def doors(data_dir: Path) -> Iterator[Doors]:
    with open_doors(data_dir) as opened:
        yield opened
