"""What tests of engines share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engines.handles import Kafka
from tests.engines.kits import KITS, EngineKit
from tests.support.kafka import broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    """Handles on a ledger of its own."""
    kafka = Kafka(broker().config())
    yield kafka
    kafka.close()


@pytest.fixture(params=sorted(KITS))
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EngineKit]:
    """Each engine in turn, with a ledger of its own."""
    kit = KITS[request.param](tmp_path)
    yield kit
    kit.close()
