from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from api.errors import ApiError
from api.idempotency import Memory
from tests.support.doors import Doors, batch, open_doors

RUNS = "/v1/training_clients"
KEY = {"Idempotency-Key": "one"}
ONE, OTHER = bytes(16), b"other" + bytes(11)


def records(doors: Doors) -> int:
    return doors.platform.engine.size("acme")


def test_a_create_that_is_sent_again_gives_the_same_training_client(doors: Doors) -> None:
    config = {"model_ref": "tiny", "metadata": {"a": 1}}
    first = doors.post(RUNS, config, headers=KEY)
    size = records(doors)
    assert doors.post(RUNS, config, headers=KEY) == first
    assert records(doors) == size


def test_an_operation_that_is_sent_again_is_the_same_future_whatever_became_of_it(doors: Doors) -> None:
    run = doors.create()
    first = doors.operate(run, "forward_backward", {"batch": batch()}, headers=KEY)
    doors.worker.take(run)
    doors.worker.gradient(first)
    again = doors.operate(run, "forward_backward", {"batch": batch()}, headers=KEY)
    assert again["future_id"] == first["future_id"]
    assert again["commitment"] == first["commitment"]
    assert again["status"] == "completed"


def test_one_key_for_two_bodies_is_refused(doors: Doors) -> None:
    run = doors.create()
    doors.operate(run, "forward_backward", {"batch": batch()}, headers=KEY)
    answer = doors.call("POST", f"{RUNS}/{run}/forward_backward", json={"batch": batch(1)}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


def test_one_key_serves_different_routes_and_tenants(doors: Doors) -> None:
    run, other = doors.create(), doors.create()
    made = [
        doors.operate(run, "forward_backward", {"batch": batch()}, headers=KEY),
        doors.operate(other, "forward_backward", {"batch": batch()}, headers=KEY),
        doors.operate(run, "save_state", {"name": "a"}, headers=KEY),
    ]
    assert len({future["future_id"] for future in made}) == 3
    here = doors.post(RUNS, {"model_ref": "tiny"}, headers=KEY)
    there = doors.post(RUNS, {"model_ref": "tiny"}, headers=KEY, key=doors.other_key)
    assert here["training_client_id"] != there["training_client_id"]


def test_requests_that_race_with_one_key_are_one_command(doors: Doors) -> None:
    run = doors.create()
    body = {"batch": batch()}
    with ThreadPoolExecutor(8) as pool:
        futures = list(pool.map(lambda _: doors.operate(run, "forward_backward", body, headers=KEY), range(8)))
    assert len({future["future_id"] for future in futures}) == 1
    assert len({future["commitment"]["salt"] for future in futures}) == 1


def test_a_rejection_is_repeated_but_want_of_room_is_not(doors: Doors) -> None:
    run = doors.create()
    for _ in range(2):
        answer = doors.call("POST", f"{RUNS}/{run}/optim_step", json={}, headers=KEY)
        assert answer.json()["code"] == "nothing_to_apply"
    futures = [doors.forward_backward(run) for _ in range(64)]
    late = {"Idempotency-Key": "late"}
    for _ in range(2):
        answer = doors.call("POST", f"{RUNS}/{run}/forward_backward", json={"batch": batch()}, headers=late)
        assert answer.json()["code"] == "quota_exceeded"
    doors.worker.take(run)
    doors.worker.gradient(futures[0])
    made = doors.operate(run, "forward_backward", {"batch": batch()}, headers=late)
    assert doors.operate(run, "forward_backward", {"batch": batch()}, headers=late)["future_id"] == made["future_id"]


BODIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "create": ("", {"model_ref": "tiny", "metadata": {"a": 1}}, {"model_ref": "tiny", "metadata": {"a": 2}}),
    "forward_backward": (
        "/forward_backward",
        {"batch": batch(), "salt": "ab" * 32},
        {"batch": batch(1), "salt": "ab" * 32},
    ),
    "save_state": ("/save_state", {"name": "a"}, {"name": "b"}),
    "metadata of a checkpoint": (
        "/save_state",
        {"name": "a", "metadata": {"a": 1}},
        {"name": "a", "metadata": {"a": 2}},
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_restarted_server_knows_its_repeats_from_the_ledger(data_dir: Path, name: str) -> None:
    operation, body, other = BODIES[name]
    with open_doors(data_dir) as doors:
        path = f"{RUNS}/{doors.create()}{operation}" if operation else RUNS
        key, first = doors.key, doors.post(path, body, headers=KEY)
    with open_doors(data_dir) as doors:
        again = doors.post(path, body, headers=KEY, key=key)
        identity = "future_id" if operation else "training_client_id"
        assert again[identity] == first[identity]
        answer = doors.call("POST", path, json=other, headers=KEY, key=key)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("name", [name for name in BODIES if name != "forward_backward"])
def test_a_repeat_is_known_by_the_ledger_when_its_reply_is_forgotten(data_dir: Path, name: str) -> None:
    operation, body, other = BODIES[name]
    with open_doors(data_dir) as doors:
        path = f"{RUNS}/{doors.create()}{operation}" if operation else RUNS
        key, first = doors.key, doors.post(path, body, headers=KEY)
    with sqlite3.connect(data_dir / "ledger.db") as db:
        db.execute("DELETE FROM replies")
    with open_doors(data_dir) as doors:
        answer = doors.call("POST", path, json=other, headers=KEY, key=key)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    with sqlite3.connect(data_dir / "ledger.db") as db:
        db.execute("DELETE FROM replies")
    with open_doors(data_dir) as doors:
        size = records(doors)
        assert doors.post(path, body, headers=KEY, key=key) == first
        assert records(doors) == size


@pytest.mark.parametrize("processes", [1, 2])
def test_only_repeats_of_a_request_wait_for_it(tmp_path: Path, processes: int) -> None:
    memory, inside = Memory(tmp_path / "turns"), threading.Event()
    elsewhere = memory if processes == 1 else Memory(tmp_path / "turns")
    with memory.turn(ONE, repeatable=True):
        for other in (memory, elsewhere):
            with other.turn(OTHER, repeatable=True), other.turn(ONE, repeatable=False):
                pass
        repeat = threading.Thread(target=lambda: enter(elsewhere, inside))
        repeat.start()
        assert not inside.wait(0.05)
    repeat.join(10)
    assert inside.is_set()
    assert memory._turns == {}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_repeat_does_not_wait_for_ever_for_a_process_that_stands_still(tmp_path: Path, processes: int) -> None:
    """Each one that waits has a thread, of which a process has few: a client that repeats itself would use them up."""
    memory = Memory(tmp_path / "turns", seconds=0.05)
    elsewhere = memory if processes == 1 else Memory(tmp_path / "turns", seconds=0.05)
    with memory.turn(ONE, repeatable=True), pytest.raises(ApiError) as refused, elsewhere.turn(ONE, repeatable=True):
        pass
    assert refused.value.code == "no_decision"
    with elsewhere.turn(ONE, repeatable=True):
        pass
    assert memory._turns == elsewhere._turns == {}


def enter(memory: Memory, inside: threading.Event) -> None:
    with memory.turn(ONE, repeatable=True):
        inside.set()
