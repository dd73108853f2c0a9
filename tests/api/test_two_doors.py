"""Two processes of doors on one ledger: what is done at one holds at the other, at once."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from api.quotas import QuotaLimits
from processors.exchange.hub import Hub
from processors.exchange.server import listening
from processors.exchange.trainer import TrainerClient
from tests.support.doors import TENANT, Doors, another_door, batch, open_doors
from tests.support.texts import TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUNS = "/v1/training_clients"
KEY = {"Idempotency-Key": "one"}
QUOTAS = QuotaLimits(queued=12)
Both = tuple[Doors, Doors]


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def exchange(hub: Hub, data_dir: Path) -> Iterator[ExitStack]:
    """The hub's socket; closing it is the end of the exchange."""
    with ExitStack() as stack:
        stack.enter_context(listening(hub, data_dir))
        yield stack


@pytest.fixture
def both(data_dir: Path, hub: Hub, exchange: ExitStack) -> Iterator[Both]:
    """The doors of the process that decides, and those of another one."""
    with open_doors(data_dir, exchange=hub, quotas=QUOTAS) as here, another_door(here, quotas=QUOTAS) as there:
        yield here, there


@pytest.fixture
def trainer(data_dir: Path, exchange: ExitStack) -> Iterator[TrainerClient]:
    client = TrainerClient(data_dir, "worker")
    yield client
    client.close()


def at_rest(doors: Doors, **config: Any) -> str:
    """A run with a worker."""
    run = doors.create(**config)
    doors.worker.take(run)
    return run


@pytest.mark.parametrize("retention", ["sealed", "memory"])
def test_a_future_of_one_is_awaited_at_the_other(both: Both, retention: str) -> None:
    for one, other in (both, both[::-1]):
        run = at_rest(one, batch_retention=retention)
        future = one.forward_backward(run)
        path = f"/v1/futures/{future['future_id']}/result"
        with ThreadPoolExecutor(1) as pool:
            awaited = pool.submit(other.get, path, params={"timeout": 30})
            one.worker.gradient(future)
            found = awaited.result(60)
        assert (found["status"], found["result"]["loss"]) == ("completed", 2.5)
        assert found["commitment"]["salt"] == one.get(path)["commitment"]["salt"] is not None


@pytest.mark.parametrize("retention", ["sealed", "memory"])
def test_a_sample_of_one_is_read_at_the_other(both: Both, retention: str) -> None:
    one, other = both
    run = at_rest(one, batch_retention=retention)
    future = one.operate(run, "sample", {"prompts": ["a"]})
    one.worker.sampled(future, json.dumps(TEXTS).encode())
    found = [doors.get(f"/v1/futures/{future['future_id']}") for doors in (one, other)]
    assert found[0] == found[1]
    assert found[0]["result"]["samples"] == TEXTS["samples"]


def test_an_input_that_one_took_is_with_the_trainer(both: Both, trainer: TrainerClient) -> None:
    for doors in both:
        future = doors.forward_backward(doors.create(batch_retention="memory"))
        taken = trainer.input(bytes.fromhex(future["future_id"]))
        assert taken is not None
        assert json.loads(taken[32:]) == batch()


def test_a_stream_is_listened_to_at_the_other(both: Both, trainer: TrainerClient) -> None:
    one, other = both
    future = one.operate(at_rest(one), "sample", {"prompts": ["a"]})
    for frame in (b'["a"]', b'["b"]'):
        trainer.stream(bytes.fromhex(future["future_id"]), frame)
    trainer.ready()  # answered after what was sent before it
    one.worker.fail(future, "out_of_memory")
    for doors in both:
        said = doors.call("GET", f"/v1/futures/{future['future_id']}/stream").text
        assert [line for line in said.splitlines() if line.startswith("event")][-1] == "event: result"
    reader = other.platform.exchange.stream_reader(bytes.fromhex(future["future_id"]))
    assert (reader.read(10), reader.lost) == ([b'["a"]', b'["b"]'], False)
    reader.close()


@pytest.mark.parametrize("retention", ["sealed", "memory"])
def test_a_key_that_is_used_at_both_is_one_request(both: Both, retention: str) -> None:
    one, other = both
    run = at_rest(one, batch_retention=retention)
    body = {"batch": batch()}
    first = one.operate(run, "forward_backward", body, headers=KEY)
    assert other.operate(run, "forward_backward", body, headers=KEY) == first
    one.worker.gradient(first)
    assert other.platform.projector.wait_for_all(10)
    again = other.operate(run, "forward_backward", body, headers=KEY)
    assert (again["future_id"], again["commitment"], again["status"]) == (
        first["future_id"],
        first["commitment"],
        "completed",
    )
    refused = other.call("POST", f"{RUNS}/{run}/forward_backward", json={"batch": batch(rows=1)}, headers={**KEY})
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("retention", ["sealed", "memory"])
def test_one_key_at_both_at_once_has_one_effect(both: Both, hub: Hub, retention: str) -> None:
    run = at_rest(both[0], batch_retention=retention)
    together = threading.Barrier(4)

    def send(doors: Doors) -> Any:
        together.wait(60)
        return doors.operate(run, "forward_backward", {"batch": batch()}, headers=KEY)

    with ThreadPoolExecutor(4) as pool:
        futures = list(pool.map(send, both * 2))
    assert len({(each["future_id"], each["commitment"]["salt"]) for each in futures}) == 1
    held = hub.input(bytes.fromhex(futures[0]["future_id"]))
    assert retention == "sealed" or held is not None
    assert held is None or held[:32].hex() == futures[0]["commitment"]["salt"]


def test_a_request_that_is_sent_again_when_it_is_done_leaves_nothing_in_memory(both: Both, hub: Hub) -> None:
    one, other = both
    run = at_rest(one, batch_retention="memory")
    future = one.operate(run, "forward_backward", {"batch": batch()}, headers=KEY)
    hub.drop_input(bytes.fromhex(future["future_id"]))
    assert other.operate(run, "forward_backward", {"batch": batch()}, headers=KEY)["future_id"] == future["future_id"]
    assert hub.figures().input_bytes == 0


def test_an_api_key_opens_both_from_the_moment_that_it_is_issued(both: Both) -> None:
    one, other = both
    key = one.issue(TENANT)
    assert [doors.call("GET", RUNS, key=key).status_code for doors in (other, one)] == [200, 200]


def test_what_one_has_made_is_there_at_the_other(both: Both) -> None:
    """The other's views may be behind; what is not found there is looked for again once they are not."""
    for _ in range(5):
        for one, other in (both, both[::-1]):
            run = one.create()
            assert other.get(f"{RUNS}/{run}")["training_client_id"] == run
            future = one.forward_backward(run)
            assert other.get(f"/v1/futures/{future['future_id']}")["status"] == "pending"
            for doors in (one, other, one):
                assert doors.post(f"{RUNS}/{run}/close")["status"] == "closed"


def test_what_waits_at_both_counts_together(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.quotas.LOOK_SECONDS", 0.0)
    run = both[0].create()
    for doors in both * 6:
        doors.operate(run, "forward_backward", {"batch": batch()})
        assert all(each.platform.projector.wait_for_all(10) for each in both)
    for doors in both:
        answer = doors.call("POST", f"{RUNS}/{run}/forward_backward", json={"batch": batch()})
        assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")


def test_without_the_exchange_sealed_runs_go_on_and_others_are_told_to_come_again(
    both: Both, exchange: ExitStack
) -> None:
    one, other = both
    sealed, memory = at_rest(one), at_rest(one, batch_retention="memory")
    waiting = one.operate(memory, "sample", {"prompts": ["a"]})
    one.worker.sampled(waiting, b"{}")
    exchange.close()
    future = other.forward_backward(sealed)
    one.worker.gradient(future)
    path = f"/v1/futures/{future['future_id']}"
    assert other.get(f"{path}/result")["status"] == "completed"
    assert "event: result" in other.call("GET", f"{path}/stream").text
    for answer in (
        other.call("POST", f"{RUNS}/{memory}/forward_backward", json={"batch": batch()}),
        other.call("GET", f"/v1/futures/{waiting['future_id']}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (503, "exchange_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1


def test_both_tell_the_same_of_trainers(both: Both, trainer: TrainerClient) -> None:
    trainer.ready()
    one, other = both
    key = one.issue(TENANT, ("metrics",))
    said = [doors.call("GET", "/metrics", key=key).text for doors in (one, other)]
    for text in said:
        assert "tensorguard_trainers_ready 1.0" in text
        assert "tensorguard_ledger_lag_records 0.0" in text
