"""Quotas of a tenant: what goes over is turned away with how long to wait, and leaves nothing on the ledger."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from api.errors import ApiError
from api.quotas import LATER, SOON, QuotaLimits, Quotas
from producers.engines.port import Reply
from schemas import commands as c
from tests.support.doors import OTHER, TENANT, Doors, batch, open_doors

RUNS = "/v1/training_clients"


def refused(answer: Any, seconds: int) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert answer.headers["retry-after"] == str(seconds)
    assert answer.json()["retry_after"] == seconds


def size(doors: Doors) -> int:
    return doors.platform.engine.size(TENANT)


def test_open_runs_are_bounded_and_closing_one_makes_room(data_dir: Path) -> None:
    with open_doors(data_dir, quotas=QuotaLimits(runs=2)) as doors:
        first, _ = doors.create(), doors.create()
        before = size(doors)
        refused(doors.call("POST", RUNS, json={"model_ref": "tiny"}), LATER)
        assert size(doors) == before
        assert doors.call("POST", RUNS, json={"model_ref": "tiny"}, key=doors.other_key).status_code == 201
        doors.post(f"{RUNS}/{first}/close")
        doors.create()


def test_queued_operations_are_bounded_over_all_runs_of_a_tenant_alone(data_dir: Path) -> None:
    with open_doors(data_dir, quotas=QuotaLimits(queued=3)) as doors:
        one, two = doors.create(), doors.create()
        futures = [doors.forward_backward(run) for run in (one, two, two)]
        before = size(doors)
        for _ in range(2):
            refused(doors.call("POST", f"{RUNS}/{one}/forward_backward", json={"batch": batch()}), SOON)
        assert size(doors) == before
        foreign = doors.post(RUNS, {"model_ref": "tiny"}, key=doors.other_key)["training_client_id"]
        doors.operate(foreign, "forward_backward", {"batch": batch()}, key=doors.other_key)
        doors.worker.take(one)
        doors.worker.gradient(futures[0])
        doors.forward_backward(one)


def test_what_was_waiting_before_a_restart_counts(data_dir: Path) -> None:
    with open_doors(data_dir) as doors:
        run = doors.create()
        doors.operate(run, "save_state", {"name": "first"})
    with open_doors(data_dir, quotas=QuotaLimits(queued=1)) as doors:
        refused(doors.call("POST", f"{RUNS}/{run}/save_state", json={"name": "second"}), SOON)


def test_bytes_in_flight_are_bounded_and_one_request_always_fits(data_dir: Path) -> None:
    with open_doors(data_dir, quotas=QuotaLimits(bytes_in_flight=10)) as doors:
        run = doors.create()
        future = doors.forward_backward(run)
        refused(doors.call("POST", f"{RUNS}/{run}/forward_backward", json={"batch": batch()}), SOON)
        doors.worker.take(run)
        doors.worker.gradient(future)
        doors.forward_backward(run)


def test_a_repeat_of_an_accepted_request_needs_no_room(data_dir: Path) -> None:
    with open_doors(data_dir, quotas=QuotaLimits(queued=1, runs=1)) as doors:
        key = {"Idempotency-Key": "once"}
        run = doors.create()
        made = doors.operate(run, "forward_backward", {"batch": batch()}, headers=key)
        assert doors.operate(run, "forward_backward", {"batch": batch()}, headers=key) == made


def test_a_request_that_was_turned_away_is_done_once_when_it_comes_again(data_dir: Path) -> None:
    with open_doors(data_dir, quotas=QuotaLimits(queued=1)) as doors:
        run, key = doors.create(), {"Idempotency-Key": "late"}
        first = doors.forward_backward(run)
        path, body = f"{RUNS}/{run}/forward_backward", {"batch": batch()}
        refused(doors.call("POST", path, json=body, headers=key), SOON)
        doors.worker.take(run)
        doors.worker.gradient(first)
        made = doors.post(path, body, headers=key)
        assert doors.post(path, body, headers=key)["future_id"] == made["future_id"]


def test_a_client_cannot_fill_the_ledger_with_rejections(data_dir: Path) -> None:
    with open_doors(data_dir, quotas=QuotaLimits(rejections_per_minute=3)) as doors:
        path = f"{RUNS}/{doors.create()}/optim_step"
        rejected = [doors.call("POST", path, json={}).json()["code"] for _ in range(3)]
        assert rejected == ["nothing_to_apply"] * 3
        before = size(doors)
        answers = [doors.call("POST", path, json={}) for _ in range(6)]
        assert {answer.json()["code"] for answer in answers} == {"quota_exceeded"}
        assert size(doors) == before
        assert int(answers[-1].headers["retry-after"]) > 0
        assert doors.call("POST", RUNS, json={"model_ref": "tiny"}, key=doors.other_key).status_code == 201


def test_operations_that_come_at_once_never_go_over(data_dir: Path) -> None:
    with open_doors(data_dir, quotas=QuotaLimits(queued=4)) as doors:
        run = doors.create()
        with ThreadPoolExecutor(8) as pool:
            path, body = f"{RUNS}/{run}/forward_backward", {"batch": batch()}
            answers = list(pool.map(lambda _: doors.call("POST", path, json=body).status_code, range(16)))
        assert sorted(set(answers)) == [202, 429]
        assert answers.count(202) == 4


def test_nothing_is_kept_of_what_was_turned_away(data_dir: Path) -> None:
    with open_doors(data_dir, quotas=QuotaLimits(runs=1, queued=1)) as doors:
        run = doors.create()
        doors.forward_backward(run)
        before = kept(data_dir)
        refused(doors.call("POST", RUNS, json={"model_ref": "tiny", "metadata": {"a": 1}}), LATER)
        refused(doors.call("POST", f"{RUNS}/{run}/forward_backward", json={"batch": batch()}), SOON)
        refused(doors.call("POST", f"{RUNS}/{run}/save_state", json={"name": "a", "metadata": {"a": 1}}), SOON)
        assert kept(data_dir) == before


def kept(data_dir: Path) -> set[Path]:
    return {path for path in (data_dir / "blobs").rglob("*") if path.is_file()}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def reply(outcome: str) -> Reply:
    return Reply(bytes(16), outcome, TENANT, None, None, "", "", bytes(32))


def test_rejections_are_forgiven_with_time(doors: Doors) -> None:
    clock = Clock()
    quotas = Quotas(doors.platform.views, QuotaLimits(rejections_per_minute=2), clock)

    def reject() -> None:
        with quotas.room(OTHER, bytes(16), c.SubmitOptimStep("run", None, None), 0) as told:
            told(reply("rejected"))

    reject()
    reject()
    with pytest.raises(ApiError) as turned_away:
        reject()
    assert turned_away.value.extras["retry_after"] == 30
    clock.now += 30
    reject()
    with pytest.raises(ApiError):
        reject()
    clock.now += 6000
    reject()
    reject()
    with pytest.raises(ApiError):
        reject()
