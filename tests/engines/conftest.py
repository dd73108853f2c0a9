"""What tests of engines share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engines.handles import Kafka
from tests.support.kafka import broker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    """Handles on a ledger of its own."""
    kafka = Kafka(broker().config())
    yield kafka
    kafka.close()
