from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api.errors import KINDS
from api.platform import DoorLimits
from producers.engines.sqlite import SqliteEngine
from tests.support.doors import POSITIONS, VOCABULARY, Doors, batch, open_doors
from tests.support.ledgers import limit_storage

RUNS = "/v1/training_clients"
CANARY = "canary-in-the-coal-mine"


@dataclass(frozen=True)
class Wrong:
    """A request that must be refused; ``{run}`` in the path stands for an open training client."""

    path: str
    status: int
    code: str
    body: Any = None
    method: str = "POST"
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def create(**config: Any) -> dict[str, Any]:
    return {"model_ref": "tiny", **config}


def nested(levels: int) -> dict[str, Any]:
    """Metadata of so many levels."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"k": value}
    return value


def forward(**change: Any) -> dict[str, Any]:
    return {"batch": {**batch(), **change}}


LONG = batch(1, POSITIONS + 1)
OP = RUNS + "/{run}"
JSON = {"Content-Type": "application/json"}

WRONG: dict[str, Wrong] = {
    "a body that is no JSON": Wrong(RUNS, 400, "malformed_body", content=b"{", headers=JSON),
    "a body that is no UTF-8": Wrong(RUNS, 400, "malformed_body", content=b'{"a": "\xff"}', headers=JSON),
    "a number of too many digits": Wrong(RUNS, 400, "malformed_body", content=b"1" * 5000, headers=JSON),
    "a form": Wrong(
        RUNS,
        415,
        "unsupported_media_type",
        content=b"a=b",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "a slash too many": Wrong(RUNS + "/", 404, "not_found", create()),
    "an empty body": Wrong(RUNS, 422, "invalid_request", content=b"", headers=JSON),
    "a list for an object": Wrong(RUNS, 422, "invalid_request", []),
    "no model": Wrong(RUNS, 422, "invalid_request", {}),
    "a path for a model": Wrong(RUNS, 422, "invalid_request", {"model_ref": "/etc/passwd"}),
    "an unknown model": Wrong(RUNS, 404, "unknown_model", {"model_ref": "nobody/knows"}),
    "an unknown field": Wrong(RUNS, 422, "invalid_request", create(surprise=1)),
    "a text for a number": Wrong(RUNS, 422, "invalid_request", create(seed="7")),
    "a boolean for a number": Wrong(RUNS, 422, "invalid_request", create(seed=True)),
    "a seed of 64 bits": Wrong(RUNS, 422, "invalid_request", create(seed=1 << 63)),
    "a rank of zero": Wrong(RUNS, 422, "invalid_request", create(lora_config={"rank": 0})),
    "twice the same layer": Wrong(RUNS, 422, "invalid_value", create(lora_config={"target_modules": ["a", "a"]})),
    "a start from an unknown artifact": Wrong(RUNS, 404, "unknown_artifact", create(start_artifact_id="0" * 32)),
    "a norm to clip to of zero": Wrong(RUNS, 422, "invalid_request", create(optimizer={"max_grad_norm": 0})),
    "a privacy budget": Wrong(RUNS, 422, "dp_not_available", create(dp_config={"target_epsilon": 3.0})),
    "an unknown optimizer": Wrong(RUNS, 422, "invalid_request", create(optimizer={"name": "lion"})),
    "a learning rate of infinity": Wrong(
        RUNS,
        422,
        "invalid_request",
        content=b'{"model_ref":"tiny","optimizer":{"learning_rate":Infinity}}',
        headers=JSON,
    ),
    "metadata that is too long": Wrong(RUNS, 422, "invalid_request", create(metadata={"k": "v" * 20_000})),
    "metadata with a lone surrogate": Wrong(
        RUNS, 422, "invalid_request", content=b'{"model_ref":"tiny","metadata":{"k":"\\ud800"}}', headers=JSON
    ),
    "metadata that is nested too deep": Wrong(RUNS, 422, "invalid_request", create(metadata=nested(33))),
    "metadata of a checkpoint that is nested too deep": Wrong(
        OP + "/save_state", 422, "invalid_request", {"name": "a", "metadata": nested(300)}
    ),
    "no content type": Wrong(RUNS, 415, "unsupported_media_type", content=b'{"model_ref":"tiny"}'),
    "a wrong limit under the content type of a form": Wrong(
        RUNS + "?limit=0", 422, "invalid_request", method="GET", headers={"Content-Type": "text/plain"}
    ),
    "an empty idempotency key": Wrong(RUNS, 422, "invalid_request", create(), headers={"Idempotency-Key": ""}),
    "an idempotency key of 300 characters": Wrong(
        RUNS, 422, "invalid_request", create(), headers={"Idempotency-Key": "k" * 300}
    ),
    "an unknown training client": Wrong(f"{RUNS}/run-nobody/optim_step", 404, "unknown_training_client", {}),
    "no batch": Wrong(OP + "/forward_backward", 422, "invalid_request", {}),
    "an empty batch": Wrong(
        OP + "/forward_backward", 422, "empty_batch", forward(input_ids=[], attention_mask=[], labels=[])
    ),
    "a ragged batch": Wrong(OP + "/forward_backward", 422, "ragged_batch", forward(input_ids=[[1], [1, 2]])),
    "floats in a batch": Wrong(OP + "/forward_backward", 422, "wrong_dtype", forward(labels=[[0.5] * 4] * 2)),
    "a text for a weight": Wrong(OP + "/forward", 422, "wrong_dtype", forward(weights=[["1"] * 4] * 2)),
    "a negative weight": Wrong(OP + "/forward", 422, "invalid_request", forward(weights=[[-1] * 4] * 2)),
    "weights of another shape": Wrong(OP + "/forward", 422, "ragged_batch", forward(weights=[[1.0] * 3] * 2)),
    "weights of zero alone": Wrong(OP + "/forward", 422, "empty_batch", forward(weights=[[0.0] * 4] * 2)),
    "a token out of vocabulary": Wrong(
        OP + "/forward_backward", 422, "token_out_of_vocabulary", forward(input_ids=[[VOCABULARY] * 4] * 2)
    ),
    "a sequence that is too long": Wrong(OP + "/forward_backward", 422, "sequence_too_long", {"batch": LONG}),
    "a salt that is too short": Wrong(OP + "/forward_backward", 422, "invalid_request", {**forward(), "salt": "ab"}),
    "a learning rate of zero": Wrong(OP + "/optim_step", 422, "invalid_request", {"learning_rate": 0}),
    "a step without a gradient": Wrong(OP + "/optim_step", 409, "nothing_to_apply", {}),
    "another generation": Wrong(OP + "/forward_backward", 409, "run_rolled_back", {**forward(), "generation": 3}),
    "prompts and tokens at once": Wrong(OP + "/sample", 422, "invalid_request", {"prompts": ["a"], "tokens": [[1]]}),
    "neither prompts nor tokens nor messages": Wrong(OP + "/sample", 422, "invalid_request", {}),
    "an empty row of tokens": Wrong(OP + "/sample", 422, "invalid_request", {"tokens": [[1], []]}),
    "a token of a prompt that the model does not have": Wrong(
        OP + "/sample", 422, "token_out_of_vocabulary", {"tokens": [[1], [VOCABULARY]]}
    ),
    "tokens that fill the model": Wrong(OP + "/sample", 422, "sequence_too_long", {"tokens": [[1] * POSITIONS]}),
    "an empty conversation": Wrong(OP + "/sample", 422, "invalid_request", {"messages": [[]]}),
    "a message without a role": Wrong(OP + "/sample", 422, "invalid_request", {"messages": [[{"content": "a"}]]}),
    "a part that is no text": Wrong(
        OP + "/sample", 422, "invalid_request", {"messages": [[{"role": "user", "content": [{"type": "text"}]}]]}
    ),
    "a conversation with a model that has no chat template": Wrong(
        OP + "/sample", 422, "chat_template_refused", {"messages": [[{"role": "user", "content": "a"}]]}
    ),
    "an empty stop string": Wrong(
        OP + "/sample", 422, "invalid_request", {"prompts": ["a"], "sampling_config": {"stop": [""]}}
    ),
    "a negative top_k": Wrong(
        OP + "/sample", 422, "invalid_request", {"prompts": ["a"], "sampling_config": {"top_k": -1}}
    ),
    "a min_p above one": Wrong(
        OP + "/sample", 422, "invalid_request", {"prompts": ["a"], "sampling_config": {"min_p": 1.5}}
    ),
    "no repetition penalty at all": Wrong(
        OP + "/sample", 422, "invalid_request", {"prompts": ["a"], "sampling_config": {"repetition_penalty": 0}}
    ),
    "no completions": Wrong(OP + "/sample", 422, "invalid_request", {"prompts": ["a"], "sampling_config": {"n": 0}}),
    "too many completions": Wrong(
        OP + "/sample", 422, "invalid_request", {"prompts": ["a"] * 64, "sampling_config": {"n": 64}}
    ),
    "no prompts": Wrong(OP + "/sample", 422, "invalid_request", {"prompts": []}),
    "a prompt with a lone surrogate": Wrong(
        OP + "/sample", 422, "invalid_request", content=b'{"prompts":["\\ud800"]}', headers=JSON
    ),
    "a negative temperature": Wrong(
        OP + "/sample", 422, "invalid_request", {"prompts": ["a"], "sampling_config": {"temperature": -1}}
    ),
    "a checkpoint name with a slash": Wrong(OP + "/save_state", 422, "invalid_request", {"name": "../x"}),
    "an unknown artifact": Wrong(OP + "/load_state", 404, "unknown_artifact", {"artifact_id": "0" * 32}),
    "an artifact id that is none": Wrong(OP + "/load_state", 422, "invalid_request", {"artifact_id": "x"}),
    "an unknown future": Wrong("/v1/futures/" + "0" * 32, 404, "unknown_future", method="GET"),
    "a result of an unknown future": Wrong("/v1/futures/nothing/result", 404, "unknown_future", method="GET"),
    "cancelling an unknown future": Wrong("/v1/futures/nothing/cancel", 404, "unknown_future"),
    "a long poll of an hour": Wrong("/v1/futures/x/result?timeout=3600", 422, "invalid_request", method="GET"),
    "a timeout that is no number": Wrong("/v1/futures/x/result?timeout=nan", 422, "invalid_request", method="GET"),
    "a limit of zero": Wrong("/v1/training_clients?limit=0", 422, "invalid_request", method="GET"),
    "a cursor that is none": Wrong("/v1/audit_logs?cursor=x", 422, "invalid_request", method="GET"),
    "a cursor at true": Wrong(
        "/v1/training_clients?cursor=WyJ0cmFpbmluZ19jbGllbnRzIix0cnVlXQ", 422, "invalid_request", method="GET"
    ),
    "a cursor of another list": Wrong(
        "/v1/audit_logs?cursor=WyJwYWNrYWdlcyIsM10", 422, "invalid_request", method="GET"
    ),
    "a package of nothing": Wrong(
        "/v1/packages", 404, "unknown_artifact", {"artifact_id": "0" * 32, "recipients": ["0" * 64]}
    ),
    "an unknown package": Wrong("/v1/packages/nothing/content", 404, "unknown_package", method="GET"),
    "another chain's checkpoint": Wrong("/v1/ledger/globex/checkpoint", 404, "not_found", method="GET"),
    "a proof of a record to come": Wrong("/v1/ledger/acme/proof/1000000", 404, "not_found", method="GET"),
    "a proof of no number": Wrong("/v1/ledger/acme/proof/-1", 422, "invalid_request", method="GET"),
    "a command that is JSON": Wrong("/v1/commands", 415, "unsupported_media_type", {}),
    "a command that is none": Wrong(
        "/v1/commands", 422, "malformed_record", content=b"x", headers={"Content-Type": "application/octet-stream"}
    ),
    "an unknown path": Wrong(f"/v1/{CANARY}", 404, "not_found", method="GET"),
    "an unknown method": Wrong(RUNS, 405, "method_not_allowed", method="DELETE"),
}


@pytest.fixture(scope="module")
def shared(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.support.doors import copy_installation  # noqa: PLC0415

    with open_doors(copy_installation(installed, tmp_path_factory.mktemp("wrong") / "data")) as doors:
        yield doors, doors.create()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_answered_by_a_problem_with_its_code_and_next_step(shared: tuple[Doors, str], name: str) -> None:
    doors, run = shared
    wrong = WRONG[name]
    sent = (
        {"content": wrong.content}
        if wrong.content is not None
        else {}
        if wrong.method == "GET"
        else {"json": wrong.body}
    )
    answer = doors.call(wrong.method, wrong.path.replace("{run}", run), headers=wrong.headers, **sent)
    assert (answer.status_code, answer.json()["code"]) == (wrong.status, wrong.code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:tensorguard:problem:{wrong.code}"
    assert problem["status"] == wrong.status == KINDS[wrong.code].status
    assert problem["next_step"]
    assert doors.get(f"{RUNS}/{run}")["status"] == "open"


def test_problems_quote_nothing_of_a_request(shared: tuple[Doors, str]) -> None:
    doors, run = shared
    bodies = (
        {"model_ref": CANARY, "metadata": [CANARY], CANARY + " with blanks": CANARY},
        {"prompts": CANARY, "sampling_config": {"temperature": CANARY}},
        {"batch": {"input_ids": CANARY, "attention_mask": CANARY, "labels": [[CANARY]]}},
    )
    for path in (RUNS, f"{RUNS}/{run}/sample", f"{RUNS}/{run}/forward_backward"):
        for body in bodies:
            answer = doors.call("POST", path, json=body)
            assert answer.status_code >= 400
            assert CANARY not in answer.text


def test_a_refused_command_leaves_no_input_behind(shared: tuple[Doors, str]) -> None:
    doors, run = shared
    before = doors.platform.exchange.figures().input_bytes
    doors.call("POST", f"{RUNS}/{run}/forward_backward", json={**forward(), "generation": 9})
    assert doors.platform.exchange.figures().input_bytes == before


def test_a_body_over_the_limit_is_refused_before_it_is_read(data_dir: Path) -> None:
    with open_doors(data_dir, limits=DoorLimits(body_bytes=1000)) as doors:
        run = doors.create()
        body = json.dumps(forward(input_ids=[[1] * 4000])).encode()
        answer = doors.call("POST", f"{RUNS}/{run}/forward_backward", content=body, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        chunks = (body[start : start + 100] for start in range(0, len(body), 100))
        answer = doors.call("POST", f"{RUNS}/{run}/forward_backward", content=chunks, headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_metadata_of_the_most_levels_comes_back_in_every_answer(doors: Doors) -> None:
    run = doors.create(metadata=nested(32))
    assert doors.get(f"{RUNS}/{run}")["config"]["metadata"] == nested(32)
    assert doors.get(RUNS)["items"][0]["config"]["metadata"] == nested(32)


def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(doors: Doors) -> None:
    assert doors.call("DELETE", RUNS).headers["allow"] in ("GET", "POST", "GET, POST")


def test_the_sixty_fifth_waiting_operation_is_told_to_wait(doors: Doors) -> None:
    run = doors.create()
    for _ in range(64):
        doors.forward_backward(run)
    answer = doors.call("POST", f"{RUNS}/{run}/forward_backward", json=forward())
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exceeded")
    assert answer.headers["retry-after"]


def test_a_closed_training_client_takes_nothing_more_and_closes_once(doors: Doors) -> None:
    run = doors.create()
    assert doors.post(f"{RUNS}/{run}/close")["status"] == "closed"
    assert doors.post(f"{RUNS}/{run}/close")["closed_at"] is not None
    answer = doors.call("POST", f"{RUNS}/{run}/forward_backward", json=forward())
    assert (answer.status_code, answer.json()["code"]) == (409, "run_closed")


def test_a_full_disk_is_said_and_what_is_sent_again_has_effect_once(doors: Doors) -> None:
    run = doors.create()
    engine = doors.platform.engine
    assert isinstance(engine, SqliteEngine)
    size = engine.size("acme")
    limit_storage(engine, pages=0)
    body, path = {"prompts": ["a"]}, f"{RUNS}/{run}/sample"
    for number in range(100):  # until the last pages are used up
        key = {"Idempotency-Key": str(number)}
        answer = doors.call("POST", path, json=body, headers=key)
        if answer.status_code != 202:
            break
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert doors.get(f"{RUNS}/{run}")["status"] == "open"
    limit_storage(engine, pages=None)
    assert doors.platform.projector.wait_for("acme", size + number, 10) or not engine.intake(
        engine.intake_position(), 1
    )
    sent = [doors.operate(run, "sample", body, headers=key) for _ in range(2)]
    assert sent[0] == sent[1]
    assert sent[0]["op_seq"] == number + 1


def test_a_fault_of_ours_says_nothing_about_itself(doors: Doors, capfd: pytest.CaptureFixture[str]) -> None:
    def broken() -> bool:
        raise RuntimeError(CANARY)

    doors.platform.checks["broken"] = broken
    answer = doors.client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    captured = capfd.readouterr()
    assert CANARY not in answer.text + captured.out + captured.err
