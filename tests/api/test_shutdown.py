"""SIGTERM: whoever waits is let go, children are ended even if they hang, and the server is gone within ten seconds."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.support.doors import open_doors
from tests.support.server import LiveServer

PROMISED_SECONDS = 10
CHILDREN = ("producers.signer", "processors.trainer")


def test_a_server_lets_go_of_those_who_wait_and_of_children_that_hang(data_dir: Path, tmp_path: Path) -> None:
    with open_doors(data_dir) as doors:
        key, run = doors.key, doors.create()
    server = LiveServer(data_dir, tmp_path / "log").start(ready=False)
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        _until(lambda: _answers(client) and all(map(server.child, CHILDREN)))
        hanging = [os.pidfd_open(_stopped(server, module)) for module in CHILDREN]
        operation = client.post(f"/v1/training_clients/{run}/save_state", json={"name": "first"}).json()
        waits = [
            *[f"/v1/futures/{operation['future_id']}/result?timeout=30"] * 2,
            f"/v1/futures/{operation['future_id']}/stream?timeout=30",
            f"/v1/ledger/acme/proof/{operation['position']['seq']}",
        ]
        with ThreadPoolExecutor(len(waits)) as pool:
            waiting = [pool.submit(_get, client, path) for path in waits]
            _until(lambda: client.get("/healthz").is_success)
            assert not any(each.done() for each in waiting)
            assert server.process is not None
            server.process.terminate()
            assert server.process.wait(PROMISED_SECONDS) == 0
            polled = [each.result() for each in waiting[:3]]
    assert polled == [202, 202, 200]
    assert all(select.select([descriptor], [], [], PROMISED_SECONDS)[0] for descriptor in hanging)
    assert '"stopped"' in server.log()
    assert "Traceback" not in server.log()


def _stopped(server: LiveServer, module: str) -> int:
    pid = server.child(module)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    return pid


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


def _get(client: httpx.Client, path: str) -> int | None:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return None


def _until(reached: Callable[[], bool]) -> None:
    pause, deadline = threading.Event(), time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        pause.wait(0.05)
