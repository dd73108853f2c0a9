"""Runs whose inputs and results are kept sealed: what the doors do about intervals, restarts and refusals."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from api.idempotency import Memory
from processors.batches.errors import InputDamagedError
from processors.batches.inputs import BlobInputStore
from processors.exchange.port import unpack_input
from schemas import commands as c
from tests.support.doors import TENANT, Doors, batch, open_doors
from tests.support.texts import TEXTS

KEY = {"Idempotency-Key": "one"}


def kept(doors: Doors, run: str, interval: int, future: Any) -> bytes | None:
    return doors.platform.inputs.get(TENANT, run, interval, bytes.fromhex(future["future_id"]))


def durable(doors: Doors, run: str) -> int:
    """A step and a checkpoint of it; the number of the interval that begins."""
    before = doors.platform.views.run(TENANT, run)
    assert before is not None
    first, step = doors.forward_backward(run), doors.operate(run, "optim_step", {})
    doors.worker.gradient(first)
    doors.worker.step(step, before.step + 1)
    doors.worker.saved(run, through=step["op_seq"], step=before.step + 1)
    through: int = step["op_seq"]
    return through


def leased(doors: Doors, **config: Any) -> str:
    run = doors.create(**config)
    doors.worker.take(run)
    return run


def test_a_run_is_sealed_unless_its_client_or_the_operator_says_else(doors: Doors) -> None:
    for asked, got in (({}, "sealed"), ({"batch_retention": "memory"}, "memory")):
        assert doors.get(f"/v1/training_clients/{doors.create(**asked)}")["config"]["batch_retention"] == got
    answer = doors.call("POST", "/v1/training_clients", json={"model_ref": "tiny", "batch_retention": "paper"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_inputs_are_sealed_under_the_interval_that_the_run_is_in(doors: Doors) -> None:
    run = leased(doors)
    first = doors.forward_backward(run)
    assert kept(doors, run, 0, first) is not None
    doors.worker.gradient(first)
    step = doors.operate(run, "optim_step", {})
    doors.worker.step(step, 1)
    doors.worker.saved(run, through=2, step=1)
    later = doors.forward_backward(run)
    assert (kept(doors, run, 0, later), kept(doors, run, 2, later) is not None) == (None, True)
    prompt = doors.operate(run, "sample", {"prompts": ["a"]})
    assert kept(doors, run, 2, prompt) is not None


class LateStore(BlobInputStore):
    """A store under which a durable state comes in between an input's sealing and its submission."""

    then: Any = None

    def put(self, tenant: str, run_id: str, interval: int, operation_id: bytes, data: bytes) -> None:
        super().put(tenant, run_id, interval, operation_id, data)
        then, self.then = self.then, None
        if then:
            then()


def late(doors: Doors, then: Any) -> None:
    store = LateStore(doors.platform.inputs._blobs, doors.platform.inputs._keys)  # type: ignore[attr-defined]
    store.then = then
    doors.platform.submission._inputs._store = store


@pytest.mark.parametrize("headers", [{}, KEY], ids=["without a key", "with an idempotency key"])
def test_an_input_whose_interval_ends_meanwhile_is_sealed_anew_and_nobody_sees_it(
    doors: Doors, headers: dict[str, str]
) -> None:
    run, ended = leased(doors), []
    late(doors, lambda: ended.append(durable(doors, run)))
    body = {"batch": batch(), "salt": "ab" * 32}
    future = doors.operate(run, "forward_backward", body, headers=headers)
    assert ended == [2]
    sealed = kept(doors, run, 2, future)
    assert sealed is not None
    assert unpack_input(sealed)[0].hex() == future["commitment"]["salt"] == "ab" * 32
    assert future["op_seq"] == 3
    if headers:
        assert doors.operate(run, "forward_backward", body, headers=headers)["future_id"] == future["future_id"]
    listed = {place: len(held) for place, held in doors.platform.inputs.stored(TENANT).items()}
    assert listed == {(run, 0): 1, (run, 2): 1}


def test_a_key_that_is_destroyed_while_an_input_is_sealed_is_no_error_if_the_interval_is_over(doors: Doors) -> None:
    run = leased(doors)

    def end_and_damage() -> None:
        durable(doors, run)
        raise InputDamagedError("The key of an interval does not open.")

    late(doors, end_and_damage)
    assert doors.forward_backward(run)["op_seq"] == 3


def test_a_key_that_is_destroyed_before_the_views_know_that_its_interval_is_over_is_no_error(doors: Doors) -> None:
    run, other, held, go = leased(doors), doors.create(), threading.Event(), threading.Event()
    first, step = doors.forward_backward(run), doors.operate(run, "optim_step", {})
    doors.worker.gradient(first)
    doors.worker.step(step, 1)

    def hold(_: object) -> None:
        held.set()
        go.wait(10)

    def end_unseen_and_damage() -> None:
        doors.platform.projector.listen(hold)
        doors.worker.decided("dispatcher", c.GrantLease(other, "worker"))
        assert held.wait(10)
        doors.worker.decided("worker", doors.worker.checkpoint(run, through=2, step=1))
        go.set()
        raise InputDamagedError("The key of an interval does not open.")

    late(doors, end_unseen_and_damage)
    assert doors.forward_backward(run)["op_seq"] == 3


def test_a_key_that_does_not_open_is_said(doors: Doors) -> None:
    run = leased(doors)
    doors.forward_backward(run)
    key = doors.platform.installation.blobs_dir / TENANT / "inputs" / run / "0" / "key"
    key.write_bytes(bytes(len(key.read_bytes())))
    answer = doors.call("POST", f"/v1/training_clients/{run}/forward_backward", json={"batch": batch()})
    assert (answer.status_code, answer.json()["code"]) == (409, "batch_lost")


def test_a_refused_operation_leaves_no_input_behind(doors: Doors) -> None:
    run = doors.create()
    doors.post(f"/v1/training_clients/{run}/close")
    answer = doors.call("POST", f"/v1/training_clients/{run}/forward_backward", json={"batch": batch()})
    assert answer.json()["code"] == "run_closed"
    assert not any(doors.platform.inputs.stored(TENANT).values())


def test_a_repeat_after_a_restart_finds_its_salt_as_long_as_the_input_is_kept(data_dir: Path) -> None:
    with open_doors(data_dir) as doors:
        key, run = doors.key, leased(doors)
        path = f"/v1/training_clients/{run}/forward_backward"
        first = doors.post(path, {"batch": batch()}, headers=KEY)
    with open_doors(data_dir) as doors:
        again = doors.post(path, {"batch": batch()}, headers=KEY, key=key)
        assert (again["future_id"], again["commitment"]) == (first["future_id"], first["commitment"])
        answer = doors.call("POST", path, json={"batch": batch(1)}, headers=KEY, key=key)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        doors.platform.inputs.destroy(TENANT, run, 0)
    with open_doors(data_dir) as doors:
        again = doors.post(path, {"batch": batch()}, headers=KEY, key=key)
        assert (again["future_id"], again["commitment"]["salt"]) == (first["future_id"], None)


def test_a_request_that_was_kept_but_not_decided_before_a_crash_is_taken_up_under_its_own_salt(doors: Doors) -> None:
    run = leased(doors)
    salts: list[bytes] = []

    def crash() -> None:
        (sealed,) = (
            doors.platform.inputs.get(TENANT, *place, held[0])
            for place, held in doors.platform.inputs.stored(TENANT).items()
        )
        assert sealed is not None
        salts.append(unpack_input(sealed)[0])
        raise RuntimeError

    late(doors, crash)
    path, body = f"/v1/training_clients/{run}/forward_backward", {"batch": batch()}
    assert doors.call("POST", path, json=body, headers=KEY).status_code == 500
    doors.platform.submission._memory = Memory(doors.platform.installation.data_dir / "run" / "turns.lock")
    other = doors.call("POST", path, json={"batch": batch(1)}, headers=KEY)
    assert other.json()["code"] == "idempotency_key_reused"
    doors.platform.submission._memory = Memory(doors.platform.installation.data_dir / "run" / "turns.lock")
    assert doors.post(path, body, headers=KEY)["commitment"]["salt"] == salts[0].hex()


def test_completions_survive_a_restart_until_their_time_is_over(data_dir: Path) -> None:
    with open_doors(data_dir) as doors:
        before = doors.platform.installation.clock()
        key, run = doors.key, leased(doors)
        future = doors.operate(run, "sample", {"prompts": ["a"], "sampling_config": {"max_tokens": 3, "seed": 5}})
        doors.worker.sampled(future, json.dumps(TEXTS).encode())
    with open_doors(data_dir) as doors:
        done = doors.get(f"/v1/futures/{future['future_id']}", key=key)
        assert done["result"]["samples"][0]["completion"] == "b"
        store = doors.platform.results
        assert store.sweep(TENANT, before + 3_599_000_000) == 0
        assert store.sweep(TENANT, doors.platform.installation.clock() + 3_601_000_000) == 1
        gone = doors.get(f"/v1/futures/{future['future_id']}", key=key)
        assert (gone["status"], gone["result"], gone["error"]["code"]) == ("completed", None, "result_expired")


def test_completions_that_do_not_open_are_said_to_be_damaged(doors: Doors) -> None:
    run = leased(doors)
    future = doors.operate(run, "sample", {"prompts": ["a"]})
    doors.worker.sampled(future, json.dumps(TEXTS).encode())
    path = doors.platform.installation.blobs_dir / TENANT / "results" / f"{future['future_id']}.{bytes(32).hex()}"
    path.write_bytes(path.read_bytes()[:-1])
    done = doors.get(f"/v1/futures/{future['future_id']}")
    assert (done["status"], done["result"], done["error"]["code"]) == ("completed", None, "result_damaged")
