"""Inputs in memory that nobody will take any more are dropped; those that somebody waits for are not."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from api.sweeping import OLD_SECONDS, sweep
from processors.exchange.hub import Hub
from tests.support.doors import Doors, open_doors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def hub(now: list[float]) -> Hub:
    return Hub(clock=lambda: now[0])


@pytest.fixture
def doors(data_dir: Path, hub: Hub) -> Iterator[Doors]:
    with open_doors(data_dir, exchange=hub) as opened:
        yield opened


def test_what_belongs_to_no_operation_that_waits_is_dropped_once_its_command_is_over(
    doors: Doors, hub: Hub, now: list[float]
) -> None:
    run = doors.create(batch_retention="memory")
    doors.worker.take(run)
    done, waiting = (doors.forward_backward(run) for _ in range(2))
    doors.worker.gradient(done)  # by a trainer that died before it dropped the input
    undecided, fresh = secrets.token_bytes(16), secrets.token_bytes(16)
    hub.put_input(undecided, b"x")
    now[0] = OLD_SECONDS - 1
    assert sweep(doors.platform) == 0
    hub.put_input(fresh, b"x")
    now[0] = OLD_SECONDS + 1
    assert sweep(doors.platform) == 2
    kept = [bytes.fromhex(waiting["future_id"]), fresh]
    assert [hub.has_input(each) for each in (*kept, undecided, bytes.fromhex(done["future_id"]))] == [
        True,
        True,
        False,
        False,
    ]
