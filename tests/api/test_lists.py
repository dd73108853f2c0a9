from __future__ import annotations

from typing import Any

from tests.support.doors import Doors


def pages(doors: Doors, path: str, limit: int) -> list[list[Any]]:
    found, cursor = [], ""
    while True:
        page = doors.get(f"{path}?limit={limit}{cursor}")
        found.append(page["items"])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_training_clients_are_paged_newest_first_without_gap_or_repeat(doors: Doors) -> None:
    made = [doors.create() for _ in range(5)]
    found = pages(doors, "/v1/training_clients", 2)
    assert [len(page) for page in found] == [2, 2, 1]
    assert [item["training_client_id"] for page in found for item in page] == made[::-1]


def test_a_page_that_is_exactly_full_is_the_last_one(doors: Doors) -> None:
    doors.create()
    doors.create()
    assert [len(page) for page in pages(doors, "/v1/training_clients", 2)] == [2]


def test_what_is_created_between_pages_moves_nothing(doors: Doors) -> None:
    made = [doors.create() for _ in range(3)]
    first = doors.get("/v1/training_clients?limit=2")
    doors.create()
    rest = doors.get(f"/v1/training_clients?limit=2&cursor={first['next_cursor']}")
    assert [item["training_client_id"] for item in rest["items"]] == made[:1]


def test_the_audit_log_is_the_chain_in_order(doors: Doors) -> None:
    run = doors.create()
    doors.forward_backward(run)
    entries = [entry for page in pages(doors, "/v1/audit_logs", 4) for entry in page]
    assert [entry["seq"] for entry in entries] == list(range(doors.platform.engine.size("acme")))
    assert entries[0]["event"] == "ChainOpened"
    narrowed = doors.get(f"/v1/audit_logs?stream=run/{run}")["items"]
    assert [entry["event"] for entry in narrowed] == ["RunCreated", "ForwardBackwardSubmitted"]
    assert [entry["stream_seq"] for entry in narrowed] == [0, 1]
    assert [entry["data"]["run_id"] for entry in narrowed] == [run, run]
    assert doors.get("/v1/audit_logs?event=RunCreated")["items"] == narrowed[:1]


def test_a_rejection_is_on_the_audit_log_with_its_code(doors: Doors) -> None:
    run = doors.create()
    doors.call("POST", f"/v1/training_clients/{run}/optim_step", json={})
    entry = doors.get("/v1/audit_logs?event=CommandRejected")["items"][0]
    assert (entry["stream"], entry["data"]["code"]) == ("rejections", "nothing_to_apply")
    assert entry["cause"] == entry["data"]["command_id"]


def test_the_catalogue_names_models_with_their_digests(doors: Doors) -> None:
    (model,) = doors.get("/v1/models")["items"]
    assert (model["name"], model["vocabulary_size"], model["files"][0]["path"]) == ("tiny", 100, "config.json")
