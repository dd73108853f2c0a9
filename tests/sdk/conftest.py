"""A simulated server and a client of it, with short pauses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tg_tinker import RetryPolicy, ServiceClient, TrainingClient, TrainingConfig

from tests.sdk import simulator as simulation

QUICK = RetryPolicy(most_seconds=5.0, first_pause=0.01, longest_pause=0.05)


@pytest.fixture
def simulator() -> Iterator[simulation.Simulator]:
    with simulation.running() as running:
        yield running


@pytest.fixture
def client(simulator: simulation.Simulator) -> Iterator[ServiceClient]:
    with ServiceClient(simulator.url, simulation.API_KEY, retry=QUICK) as opened:
        yield opened


@pytest.fixture
def training(client: ServiceClient) -> TrainingClient:
    return client.create_training_client(TrainingConfig(model_ref="small"))
