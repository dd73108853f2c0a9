"""Two trainers of a real server: one is killed, one stands still, and a sealed run ends as an undisturbed one."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tg_tinker import ServiceClient

from tests.e2e.test_replays import PATIENCE, Place, Trained, digests, train
from tests.support.catalogue import add_model
from tests.support.server import LiveServer, tensorguard, tensorguard_json
from tests.support.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEPS = 12
SETTINGS = {
    "TG_TRAINERS": "2",
    "TG_LEASE_SECONDS": "8",
    "TG_CHECKPOINT_EVERY_STEPS": "5",
    "TG_CHECKPOINT_EVERY_SECONDS": "600",
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    data_dir = tmp_path / "data"
    add_model(data_dir, "tiny", build_tiny_model(tmp_path / "model"))
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
    server = LiveServer(data_dir, tmp_path / "server.log", SETTINGS).start()
    try:
        with ServiceClient(base_url=server.url, api_key=key) as client:
            yield Place(server, client, data_dir)
    finally:
        server.stop()


def leases(place: Place, training: Any) -> list[str]:
    events = place.events(training)
    return [str(event.data["worker"]) for event in events if event.event == "RunLeaseGranted"]


def disturb(place: Place, training: Any, number: signal.Signals, told: Trained, part: int) -> int:
    """Send a signal to the trainer that holds a run, in the middle of its work; the process that it went to."""

    def work() -> None:
        try:
            train(training, range(part * STEPS, (part + 1) * STEPS), told)
        except BaseException as error:  # noqa: BLE001 -- whatever a user would see is the finding
            told.error = error

    thread = threading.Thread(target=work)
    thread.start()
    threading.Event().wait(0.5)
    for _ in range(int(PATIENCE * 10)):
        if held := leases(place, training):
            break
        threading.Event().wait(0.1)
    pid = place.server.child(held[-1])
    assert pid is not None
    os.kill(pid, number)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert told.error is None
    return pid


@pytest.mark.timeout(600)
def test_a_run_outlives_a_trainer_that_is_killed_and_one_that_stands_still(place: Place, tmp_path: Path) -> None:
    reference, training = place.run(), place.run()
    undisturbed, told = Trained(), Trained()
    disturb(place, training, signal.SIGKILL, told, 0)
    place.server.wait_ready()
    stopped = disturb(place, training, signal.SIGSTOP, told, 1)
    os.kill(stopped, signal.SIGCONT)
    train(training, range(2 * STEPS, 3 * STEPS), told)
    train(reference, range(3 * STEPS), undisturbed)
    assert (told.losses, told.completions) == (undisturbed.losses, undisturbed.completions)
    events = place.events(training)
    assert digests(events) == digests(place.events(reference))
    assert len(set(leases(place, training))) >= 2
    names = [event.event for event in events]
    assert "RunRolledBack" not in names
    assert "OperationFailed" not in names
    assert all(event.data["identical"] for event in events if event.event == "RunReplayed")
    tensorguard("ledger", "export", "--data-dir", place.data_dir, "--out", tmp_path / "export")
    report = tensorguard_json("audit", "verify", tmp_path / "export", "--decisions")
    assert report["verified"], report
