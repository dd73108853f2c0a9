"""A worker whose brokers are away ends with a word of its own, and its log is not flooded."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from processors.errors import WorkerEndedError
from processors.runners.crew import Crew
from processors.runners.faust_app import CHECK_SECONDS, LedgerApp, work
from processors.runners.faust_logs import Seldom
from tests.runners.ground import Ground
from tests.support.kafka import free_port

if TYPE_CHECKING:
    from pathlib import Path


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.ERROR, "client.py", 1, message, arguments, None)


def test_what_is_logged_again_and_again_is_logged_once_in_a_while() -> None:
    now = [0.0]
    seldom = Seldom(10.0, lambda: now[0])
    assert seldom.filter(record("no node %s", 1))
    now[0] = 9.0
    assert not seldom.filter(record("no node %s", 2))
    assert seldom.filter(record("no group"))
    now[0] = 10.0
    assert seldom.filter(record("no node %s", 1))


def test_a_worker_that_finds_no_broker_says_so_and_waits_for_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ground = Ground(tmp_path / "data")
    crew = Crew(ground.ledger.installation, ground.ledger.engine, [])
    nowhere = replace(ground.config, servers=f"127.0.0.1:{free_port()}")

    async def run() -> None:
        await asyncio.wait_for(work(LedgerApp(nowhere, crew), crew, asyncio.Event()), CHECK_SECONDS / 2)

    with pytest.raises(WorkerEndedError, match="KafkaConnectionError"):
        asyncio.run(run())
    assert "Traceback" not in capfd.readouterr().err
    ground.close()
