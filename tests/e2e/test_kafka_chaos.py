"""A fleet under load whose every kind of process, and whose broker, is killed and paused at seeded moments."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text
from tg_tinker import ServiceClient

from producers.engines.kafka.config import TRANSACTION_MS
from producers.engines.opening import open_engine
from producers.settings import read
from projections.database import open_database, sqlite_url
from projections.projector import Projector
from tests.support.catalogue import add_model
from tests.support.fleet import PATIENCE, RUN, Fleet, Load, keep_on_kafka, kill, verify, wait_started_again
from tests.support.kafka import Broker, own_broker
from tests.support.server import LiveServer, tensorguard_json
from tests.support.tiny_model import build_tiny_model

SEEDS = int(os.environ.get("TG_SOAK_SEEDS", "30"))
PROCESSES = ("sequencer", "signer", "worker", "trainer", "api")
BROKER, PAUSED_BROKER = "broker", "paused broker"
PAUSES_IN_ALL = 3
"""Each is longer than a transaction may take, so they are not thirty."""
LONGEST_PAUSE = TRANSACTION_MS / 1000 + 10
OUTCOMES = {"ForwardBackwardCompleted", "StepApplied", "OperationFailed", "OperationCancelled"}


@dataclass
class Chaos:
    """A fleet, its broker, and what is done to them."""

    fleet: Fleet
    broker: Broker

    def strike(self, victim: str) -> None:
        """End or pause a victim, and wait until it is there again."""
        if victim == BROKER:
            self.broker.stop()
            self.broker.start()
        elif victim == PAUSED_BROKER:
            self.broker.signal(signal.SIGSTOP)
            threading.Event().wait(LONGEST_PAUSE)
            self.broker.signal(signal.SIGCONT)
        else:
            wait_started_again(self.fleet.data_dir, victim, kill(self.fleet.data_dir, victim))


@contextmanager
def chaos(root: Path) -> Iterator[Chaos]:
    with own_broker() as broker:
        data_dir = root / "data"
        keep_on_kafka(data_dir, broker.servers, api_processes=2, trainers=2, workers=2)
        server = LiveServer(data_dir, root / "server.log", {"TG_CHECKPOINT_EVERY_STEPS": "4"}).start()
        try:
            add_model(data_dir, "tiny", build_tiny_model(root / "model"))
            key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
            with ServiceClient(base_url=server.url, api_key=key) as client:
                yield Chaos(Fleet(server, client, key), broker)
        finally:
            server.stop()


def moments(rng: random.Random) -> list[str]:
    """Every victim as often as there are seeds, in an order of its own."""
    often = [*PROCESSES, BROKER] * SEEDS + [PAUSED_BROKER] * min(SEEDS, PAUSES_IN_ALL)
    rng.shuffle(often)
    return often


def check_acknowledged(events: list[Any], loads: list[Load]) -> None:
    """What clients were told is on the ledger, once, with one outcome; steps follow on one another without a gap."""
    submitted = Counter(each.data["operation_id"] for each in events if each.event.endswith("Submitted"))
    outcomes = Counter(each.data["operation_id"] for each in events if each.event in OUTCOMES)
    for load in loads:
        assert not load.unexpected
        assert all(submitted[future] == 1 for future in load.acknowledged)
        assert all(outcomes[future] == 1 for future in load.acknowledged)
        stream = f"run/{load.training.training_client_id}"
        steps = [each.data["step"] for each in events if each.stream == stream and each.event == "StepApplied"]
        assert steps == list(range(1, len(steps) + 1))
        assert set(load.steps) <= set(steps)


def rows_of(path: Path) -> dict[str, list[Any]]:
    """What is in views, as one can compare it."""
    database = open_database(sqlite_url(path))
    try:
        with database.connect() as connection:
            tables = sorted(inspect(database).get_table_names())
            return {table: sorted(map(repr, connection.execute(text(f'SELECT * FROM "{table}"')))) for table in tables}  # noqa: S608 -- our own tables
    finally:
        database.dispose()


def rebuilt_views_equal_the_live_ones(data_dir: Path, fresh: Path) -> None:
    """Views that are folded from nothing are those that a process of doors kept through it all."""
    database = open_database(sqlite_url(fresh))
    with closing(open_engine(read(data_dir).settings, data_dir)) as engine:
        Projector(engine, database).catch_up()
        for live in data_dir.glob("views*.db"):
            kept = open_database(sqlite_url(live))
            Projector(engine, kept).catch_up()  # what came in after its process ended
            kept.dispose()
    database.dispose()
    expected = rows_of(fresh)
    assert all(rows_of(live) == expected for live in data_dir.glob("views*.db"))


@pytest.mark.soak
@pytest.mark.timeout(14_400)
def test_a_fleet_loses_and_doubles_nothing_whoever_dies(tmp_path: Path) -> None:
    rng = random.Random(4)
    with chaos(tmp_path) as around:
        fleet = around.fleet
        loads = [Load(fleet.client.create_training_client(RUN)) for _ in range(2)]
        threads = [load.start() for load in loads]
        for victim in moments(rng):
            threading.Event().wait(rng.uniform(0.2, 4.0))
            around.strike(victim)
            assert all(not load.unexpected for load in loads), f"{victim}: {[load.unexpected for load in loads]}"
        for load in loads:
            load.halt.set()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a client hangs"
        fleet.server.wait_ready()
        for load in loads:
            load.finish()
        check_acknowledged(list(fleet.client.get_audit_logs(limit=1_000_000)), loads)
        verify(fleet.data_dir, tmp_path / "export")
        assert min(len(load.acknowledged) for load in loads) > SEEDS, "the kills must meet clients at work"
        assert fleet.server.process is not None
        assert fleet.server.process.poll() is None, "its supervisor lives through all of it"
        assert fleet.server.stop() == 0
        rebuilt_views_equal_the_live_ones(fleet.data_dir, tmp_path / "fresh.db")
