"""What keeps a server's children running: started again, but not in vain; ended in an order, and within its time."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from api.children import Child, Supervisor
from producers.sequencer.process import GIVEN_UP

SOON = 20.0
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"
WILLING = 'trap \'echo "$0" >> "$1"; exit 0\' TERM; echo ready; while :; do sleep 0.05; done'


def shell(script: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
    """A child that has said that it is ready."""
    process = subprocess.Popen(["/bin/sh", "-c", script, *map(str, arguments)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    return process


def test_children_are_ended_from_the_last_stage_to_the_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    stages = {"ledger": 0, "doors": 2, "workers": 1}
    children = [
        Child(name, lambda name=name: shell(WILLING, name, order), stage=stage)  # type: ignore[misc]
        for name, stage in stages.items()
    ]
    supervisor = Supervisor(children)
    supervisor.start()
    _until(lambda: all(supervisor.alive(name) for name in stages))
    supervisor.stop(SOON)
    assert order.read_text().split() == ["doors", "workers", "ledger"]


def test_a_child_that_does_not_listen_is_killed_and_holds_up_nobody_for_ever(tmp_path: Path) -> None:
    order = tmp_path / "order"
    first = Child("ledger", lambda: shell(WILLING, "ledger", order))
    supervisor = Supervisor([first, Child("doors", lambda: shell(STUBBORN), stage=1)])
    supervisor.start()
    _until(lambda: supervisor.alive("doors") and supervisor.alive("ledger"))
    supervisor.stop(1.0)
    assert order.read_text().split() == ["ledger"], "the others still get their time"
    assert supervisor.process_ids() == {"ledger": None, "doors": None}


def test_a_child_that_dies_is_started_again_and_whoever_watches_is_told() -> None:
    told = threading.Semaphore(0)
    supervisor = Supervisor([Child("short", lambda: shell("echo ready"))], changed=told.release)
    supervisor.start()
    for _ in range(4):  # started, ended, started, ended
        assert told.acquire(timeout=SOON)
    supervisor.stop(SOON)
    assert supervisor.starts()["short"] >= 2


@pytest.mark.parametrize(("status", "given_up"), [(GIVEN_UP, True), (1, False)])
def test_a_child_that_gives_up_is_not_started_again(*, status: int, given_up: bool) -> None:
    named, told = [], threading.Semaphore(0)
    child = Child("ledger", lambda: shell(f"echo ready; exit {status}"))
    supervisor = Supervisor([child], changed=told.release, given_up=named.append)
    supervisor.start()
    for _ in range(2 if given_up else 3):
        assert told.acquire(timeout=SOON)
    _until(lambda: bool(named) is given_up)
    supervisor.stop(SOON)
    assert (named == ["ledger"]) is given_up
    assert (supervisor.starts()["ledger"] == 1) is given_up


def _until(ready: object) -> None:
    pause = threading.Event()
    for _ in range(int(SOON / 0.02)):
        if callable(ready) and ready():
            return
        pause.wait(0.02)
    raise AssertionError("it did not come to pass")
