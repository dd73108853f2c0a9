"""What tests of the exchange share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from processors.exchange.hub import Hub
from processors.exchange.limits import ExchangeLimits
from processors.exchange.server import listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMITS = ExchangeLimits(connections=4, one_input_bytes=1 << 20, arriving_bytes=1 << 20, listening=2, stall_seconds=0.2)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(LIMITS)
    with listening(hub, tmp_path):
        yield hub
