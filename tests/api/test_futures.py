from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from processors.exchange.hub import Hub
from processors.exchange.limits import ExchangeLimits
from tests.support.doors import Doors, batch, open_doors
from tests.support.texts import TEXTS


def sample(doors: Doors, run: str) -> Any:
    return doors.operate(run, "sample", {"prompts": ["a"], "sampling_config": {"max_tokens": 3, "seed": 5}})


def result(doors: Doors, future: Any) -> Any:
    return doors.get(f"/v1/futures/{future['future_id']}/result?timeout=5")


def test_a_long_poll_wakes_as_soon_as_the_outcome_is_there(doors: Doors) -> None:
    run = doors.create()
    future = doors.forward_backward(run)
    doors.worker.take(run)
    answered: list[tuple[float, Any]] = []

    def poll() -> None:
        answer = doors.get(f"/v1/futures/{future['future_id']}/result?timeout=25")
        answered.append((time.monotonic(), answer))

    waiter = threading.Thread(target=poll)
    waiter.start()
    waiter.join(0.5)
    assert waiter.is_alive()
    doors.worker.gradient(future)
    done = time.monotonic()
    waiter.join(5)
    assert answered[0][1]["status"] == "completed"
    assert answered[0][0] - done < 1


def test_a_long_poll_that_ends_too_early_says_pending(doors: Doors) -> None:
    future = doors.forward_backward(doors.create())
    for timeout in ("0", "0.2"):
        answer = doors.call("GET", f"/v1/futures/{future['future_id']}/result?timeout={timeout}")
        assert (answer.status_code, answer.json()["status"]) == (202, "pending")


def test_hundreds_of_long_polls_wait_without_holding_up_anyone(doors: Doors) -> None:
    run = doors.create()
    future = doors.forward_backward(run)
    doors.worker.take(run)
    path = f"/v1/futures/{future['future_id']}/result?timeout=20"
    answers: list[int] = []
    waiters = [threading.Thread(target=lambda: answers.append(doors.call("GET", path).status_code)) for _ in range(100)]
    for waiter in waiters:
        waiter.start()
    assert doors.get(f"/v1/training_clients/{run}")["status"] == "open"
    doors.worker.gradient(future)
    for waiter in waiters:
        waiter.join(20)
    assert answers == [200] * 100


def test_completions_of_a_run_in_memory_expire(data_dir: Path) -> None:
    now = [0.0]
    with open_doors(data_dir, exchange=Hub(ExchangeLimits(), clock=lambda: now[0])) as doors:
        run = doors.create(batch_retention="memory")
        future = sample(doors, run)
        doors.worker.take(run)
        doors.worker.sampled(future, json.dumps(TEXTS).encode())
        done = result(doors, future)
        assert done["result"]["samples"] == TEXTS["samples"]
        off = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "n": 1, "logprobs": False}
        assert done["result"]["sampling_config"] == {
            **off,
            "max_tokens": 3,
            "temperature": 1.0,
            "top_p": 1.0,
            "seed": 5,
        }
        now[0] = 3601
        gone = result(doors, future)
        assert (gone["status"], gone["result"], gone["error"]["code"]) == ("completed", None, "result_expired")


def test_a_failed_operation_names_its_code_and_hurts_no_other_run(doors: Doors) -> None:
    run, other = doors.create(), doors.create()
    future = doors.forward_backward(run)
    doors.worker.take(run)
    doors.worker.fail(future, "non_finite_loss")
    done = result(doors, future)
    assert (done["status"], done["error"]["code"]) == ("failed", "non_finite_loss")
    assert done["error"]["next_step"]
    doors.worker.take(other)
    doors.worker.gradient(doors.forward_backward(other))


def test_a_saved_checkpoint_is_an_artifact_and_loads_into_another_run(doors: Doors) -> None:
    run, other = doors.create(), doors.create()
    saving = doors.operate(run, "save_state", {"name": "first", "metadata": {"note": "mine"}})
    doors.worker.take(run)
    artifact = doors.worker.saved(run, through=0, step=0, future=saving, name="first")
    saved = result(doors, saving)["result"]
    assert saved["artifact_id"] == artifact.hex()
    assert saved["metadata"] == {"note": "mine"}
    assert saved["encryption"] == {"algorithm": "AES-256-GCM", "key_id": "dek"}
    info = doors.get(f"/v1/artifacts/{artifact.hex()}")
    assert (info["name"], info["automatic"], info["training_client_id"]) == ("first", False, run)
    assert [each["artifact_id"] for each in doors.get("/v1/artifacts")["items"]] == [artifact.hex()]
    loading = doors.operate(other, "load_state", {"artifact_id": artifact.hex()})
    doors.worker.take(other)
    doors.worker.loaded(loading, artifact, 0)
    assert result(doors, loading)["result"]["artifact_id"] == artifact.hex()
    assert doors.get(f"/v1/training_clients/{other}")["last_durable_artifact_id"] == artifact.hex()


def test_what_a_rollback_lost_says_where_the_run_stands(doors: Doors) -> None:
    run = doors.create(batch_retention="memory")
    doors.worker.take(run)
    first, step = doors.forward_backward(run), doors.operate(run, "optim_step", {})
    doors.worker.gradient(first)
    doors.worker.step(step, 1)
    artifact = doors.worker.saved(run, through=2, step=1).hex()
    after, pending = doors.forward_backward(run), doors.forward_backward(run)
    doors.worker.gradient(after)
    doors.worker.take(run)
    assert [result(doors, future)["status"] for future in (first, step)] == ["completed", "completed"]
    for future in (after, pending):
        lost = result(doors, future)
        assert (lost["status"], lost["error"]["code"], lost["result"]) == ("lost", "operation_lost", None)
        assert lost["error"]["last_durable_step"] == 1
        assert lost["error"]["artifact_id"] == artifact
    info = doors.get(f"/v1/training_clients/{run}")
    assert (info["step"], info["generation"], info["last_durable_step"]) == (1, 1, 1)
    answer = doors.call(
        "POST", f"/v1/training_clients/{run}/forward_backward", json={"batch": batch(), "generation": 0}
    )
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (409, "run_rolled_back")
    assert (problem["last_durable_step"], problem["generation"], problem["artifact_id"]) == (1, 1, artifact)
    doors.operate(run, "forward_backward", {"batch": batch(), "generation": 1})


def test_a_cancelled_operation_ends_when_its_worker_says_so(doors: Doors) -> None:
    run = doors.create()
    doors.worker.take(run)
    first, second = doors.forward_backward(run), doors.forward_backward(run)
    for _ in range(2):
        assert doors.post(f"/v1/futures/{second['future_id']}/cancel")["status"] == "pending"
    doors.worker.gradient(first)
    doors.worker.fail(second, "cancelled")
    done = result(doors, second)
    assert (done["status"], done["error"]["code"]) == ("cancelled", "cancelled")
    answer = doors.call("POST", f"/v1/futures/{first['future_id']}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "operation_finished")


def test_training_clients_and_futures_answer_under_the_other_prefix_too(doors: Doors) -> None:
    run = doors.post("/api/v1/training_clients", {"model_ref": "tiny"})["training_client_id"]
    future = doors.post(f"/api/v1/training_clients/{run}/forward_backward", {"batch": batch()})
    assert doors.get(f"/api/v1/futures/{future['future_id']}") == doors.get(f"/v1/futures/{future['future_id']}")
