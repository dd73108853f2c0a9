"""A simulated server and a client of it, with short pauses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tg_tinker import RetryPolicy, ServiceClient, TrainingClient, TrainingConfig

from tests.sdk.simulator import API_KEY, Simulator
from tests.sdk.simulator_http import running

QUICK = RetryPolicy(most_seconds=5.0, first_pause=0.01, longest_pause=0.05)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with running() as simulated:
        yield simulated


@pytest.fixture
def client(simulator: Simulator) -> Iterator[ServiceClient]:
    with ServiceClient(simulator.url, API_KEY, retry=QUICK) as opened:
        yield opened


@pytest.fixture
def training(client: ServiceClient) -> TrainingClient:
    return client.create_training_client(TrainingConfig(model_ref="small"))
