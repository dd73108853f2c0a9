from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.doors import Doors, copy_installation, open_doors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLERS = "/v1/samplers"


@pytest.fixture(scope="module")
def doors(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with open_doors(copy_installation(installed, tmp_path_factory.mktemp("samplers") / "data")) as opened:
        yield opened


@pytest.fixture(scope="module")
def artifact(doors: Doors) -> str:
    """A checkpoint of a run at step 3."""
    run = doors.create(lora_config={"rank": 8, "use_dora": True})
    future = doors.operate(run, "save_state", {"name": "first"})
    doors.worker.take(run)
    return doors.worker.saved(run, through=0, step=0, future=future, name="first").hex()


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def test_a_model_of_the_catalogue_is_opened_and_sampled(doors: Doors) -> None:
    sampler = doors.post(SAMPLERS, {"model_ref": "tiny", "seed": 4, "metadata": {"why": "a look"}})
    assert (sampler["artifact_id"], sampler["step"], sampler["status"], sampler["seed"]) == (None, 0, "open", 4)
    assert sampler["metadata"] == {"why": "a look"}
    future = doors.post(f"{SAMPLERS}/{sampler['sampler_id']}/sample", {"prompts": ["a"]})
    assert (future["kind"], future["training_client_id"]) == ("sample", sampler["sampler_id"])


def test_a_checkpoint_is_opened(doors: Doors, artifact: str) -> None:
    sampler = doors.post(SAMPLERS, {"artifact_id": artifact})
    assert (sampler["artifact_id"], sampler["model_ref"]) == (artifact, "tiny")
    run = doors.platform.views.run("acme", sampler["sampler_id"])
    assert run is not None
    assert run.lora is not None
    assert (run.trainable, run.lora["rank"], run.lora["use_dora"]) == (False, 8, True)


def test_samplers_and_training_clients_have_lists_of_their_own(doors: Doors) -> None:
    first, second = (doors.post(SAMPLERS, {"model_ref": "tiny"})["sampler_id"] for _ in range(2))
    run = doors.create()
    page = doors.get(f"{SAMPLERS}?limit=1")
    assert [each["sampler_id"] for each in page["items"]] == [second]
    following = doors.get(f"{SAMPLERS}?limit=1&cursor={page['next_cursor']}")
    assert [each["sampler_id"] for each in following["items"]] == [first]
    assert [each["training_client_id"] for each in doors.get("/v1/training_clients?limit=1")["items"]] == [run]
    assert code(doors.call("GET", f"/v1/training_clients/{first}")) == (404, "unknown_training_client")
    assert code(doors.call("GET", f"{SAMPLERS}/{run}")) == (404, "unknown_sampler")


def test_a_closed_sampler_takes_no_samples_and_closing_twice_is_no_error(doors: Doors) -> None:
    sampler = doors.post(SAMPLERS, {"model_ref": "tiny"})["sampler_id"]
    assert [doors.post(f"{SAMPLERS}/{sampler}/close")["status"] for _ in range(2)] == ["closed"] * 2
    response = doors.call("POST", f"{SAMPLERS}/{sampler}/sample", json={"prompts": ["a"]})
    assert code(response) == (409, "run_closed")
    assert doors.get(f"{SAMPLERS}/{sampler}")["status"] == "closed"


def test_a_repeat_with_the_same_key_opens_one_sampler(doors: Doors) -> None:
    key = {"Idempotency-Key": "again"}
    made = [doors.post(SAMPLERS, {"model_ref": "tiny"}, headers=key)["sampler_id"] for _ in range(2)]
    assert made[0] == made[1]


WRONG: dict[str, tuple[str, Any, tuple[int, str]]] = {
    "nothing to sample from": ("", {}, (422, "invalid_request")),
    "two things to sample from": ("", {"model_ref": "tiny", "artifact_id": "0" * 32}, (422, "invalid_request")),
    "an unknown model": ("", {"model_ref": "other"}, (404, "unknown_model")),
    "an unknown artifact": ("", {"artifact_id": "0" * 32}, (404, "unknown_artifact")),
    "an artifact that is no id": ("", {"artifact_id": "x"}, (422, "invalid_request")),
    "an unknown field": ("", {"model_ref": "tiny", "lora_config": None}, (422, "invalid_request")),
    "a sample of an unknown sampler": ("/sampler-nobody/sample", {"prompts": ["a"]}, (404, "unknown_sampler")),
    "closing an unknown sampler": ("/sampler-nobody/close", {}, (404, "unknown_sampler")),
}


@pytest.mark.parametrize(("path", "body", "wanted"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused(doors: Doors, path: str, body: Any, wanted: tuple[int, str]) -> None:
    assert code(doors.call("POST", SAMPLERS + path, json=body)) == wanted


def test_samplers_of_another_tenant_do_not_exist(doors: Doors, artifact: str) -> None:
    sampler = doors.post(SAMPLERS, {"model_ref": "tiny"})["sampler_id"]
    other = doors.other_key
    assert code(doors.call("GET", f"{SAMPLERS}/{sampler}", key=other)) == (404, "unknown_sampler")
    response = doors.call("POST", SAMPLERS, json={"artifact_id": artifact}, key=other)
    assert code(response) == (404, "unknown_artifact")
