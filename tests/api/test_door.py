"""A process of doors beside others: on a socket that it was given, ready by what others do, gone when it is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest

from api.errors import AddressUnavailableError
from api.serving import inherited
from api.signing import sign_at
from processors.exchange import server as exchange
from processors.exchange.hub import Hub
from processors.exchange.trainer import TrainerClient
from processors.placement.dispatcher import Dispatcher
from producers.clock import system_clock
from producers.positions import PositionFile
from producers.submitter import ENROLLED
from schemas.commands import EnrolProducer
from tests.support.door_process import door
from tests.support.doors import Doors, open_doors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 60.0


@pytest.fixture
def beside(data_dir: Path) -> Iterator[tuple[Doors, ExitStack]]:
    """A process that decides, with a hub that listens; closing the stack ends the hub."""
    hub = Hub()
    with ExitStack() as stack:
        stack.enter_context(exchange.listening(hub, data_dir))
        with open_doors(data_dir, exchange=hub) as doors:
            yield doors, stack


def test_a_door_answers_beside_others_until_it_is_told_to_end(
    beside: tuple[Doors, ExitStack], data_dir: Path, tmp_path: Path
) -> None:
    doors, hub = beside
    trainer = TrainerClient(data_dir, "worker")
    trainer.ready()
    dispatching = PositionFile(data_dir, [Dispatcher.name], system_clock)
    dispatching.note({})
    with closing(dispatching), door(data_dir, tmp_path / "log") as (process, client):
        client.headers["Authorization"] = f"Bearer {doors.key}"
        made = client.post("/v1/training_clients", json={"model_ref": "tiny"}).json()["training_client_id"]
        assert doors.get(f"/v1/training_clients/{made}")["training_client_id"] == made
        sign_at(data_dir, f"sqlite:///{data_dir / 'ledger.db'}", locked=True)
        ready = client.get("/readyz")
        assert (ready.status_code, set(ready.json()["checks"])) == (
            200,
            {"projector", "ledger", "sequencer", "dispatcher", "signer", "exchange", "trainer"},
        )
        future = doors.operate(made, "save_state", {"name": "first"})
        hub.close()
        away = client.get("/readyz")
        checks = away.json()["checks"]
        assert (away.status_code, checks["exchange"], checks["trainer"], checks["projector"]) == (
            503,
            False,
            False,
            True,
        )
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.get, f"/v1/futures/{future['future_id']}/result", params={"timeout": 30})
            assert client.get("/healthz").is_success
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert waiting.result().status_code == 202
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    said = {line["event"] for line in lines}
    assert {"listening", "exchange_connected", "exchange_lost", "stopping", "stopped"} <= said
    assert doors.key not in (tmp_path / "log").read_text()


def test_a_door_lets_every_role_speak_on_chains_of_a_build_that_did_not_know_it(
    beside: tuple[Doors, ExitStack], data_dir: Path, tmp_path: Path
) -> None:
    platform, old = beside[0].platform, "initech"
    for role in set(ENROLLED) - {"retention"}:
        key = platform.installation.producer(role)
        beside[0].worker.say("authority", EnrolProducer(key.key_id, key.public_key, role, role, None), tenant=old)
    lacking = platform.installation.producer("retention").key_id.hex()
    assert platform.views.producer(old, lacking) is None
    with door(data_dir, tmp_path / "log"):
        while True:
            seen = platform.engine.sizes()
            if platform.views.producer(old, lacking) is not None:
                break
            assert platform.engine.wait(seen, PATIENCE), "nobody enrolled it"


def test_a_descriptor_that_is_no_socket_is_refused(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(AddressUnavailableError), inherited(fd):
        pass
    os.close(fd)


def test_a_door_that_cannot_listen_says_so_and_ends(data_dir: Path) -> None:
    command = [sys.executable, "-m", "api.door", "--data-dir", data_dir, "--listen-fd", "9999"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.returncode, "address_unavailable" in ended.stderr) == (1, True)
