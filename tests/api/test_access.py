from __future__ import annotations

from typing import Any

import pytest

from api import keys
from api.app import create_app
from schemas import commands as c
from tests.support.doors import TENANT, Doors, batch

OPEN = {"/healthz", "/readyz", "/openapi.json", "/.well-known/tensorguard/trust-root.json", "/v1/commands"}
STRANGERS: dict[str, dict[str, str]] = {
    "no key": {},
    "an empty bearer": {"Authorization": "Bearer "},
    "basic": {"Authorization": "Basic dXNlcjpwYXNz"},
    "a key of another shape": {"Authorization": "Bearer sk-123"},
    "an unknown key": {"Authorization": f"Bearer {keys.new_key().text}"},
    "an unknown key in the other header": {"X-API-Key": keys.new_key().text},
    "letters beyond ASCII": {"X-API-Key": "tg-key-ÿ"},
}


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_are_told_the_same_whatever_they_bring(doors: Doors, name: str) -> None:
    headers = [(header.encode(), value.encode()) for header, value in STRANGERS[name].items()]
    answer = doors.client.get("/v1/models", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.json()["detail"] == "The request carries no valid API key."
    assert answer.headers["www-authenticate"] == "Bearer"


def test_strangers_are_turned_away_before_their_body_is_looked_at(doors: Doors) -> None:
    for path in ("/v1/training_clients", "/v1/training_clients/run/forward_backward", "/v1/packages"):
        answer = doors.client.post(path, content=b"{", headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


def test_the_right_id_with_another_secret_opens_nothing(doors: Doors) -> None:
    forged = doors.key[:-1] + ("0" if doors.key[-1] != "0" else "1")
    assert doors.call("GET", "/v1/models", key=forged).status_code == 401


def test_both_headers_carry_a_key(doors: Doors) -> None:
    assert doors.client.get("/v1/models", headers={"X-API-Key": doors.key}).status_code == 200
    assert doors.client.get("/v1/models", headers={"Authorization": f"Bearer {doors.key}"}).status_code == 200


def test_a_revoked_key_opens_nothing(doors: Doors) -> None:
    key = doors.issue(TENANT)
    assert doors.call("GET", "/v1/models", key=key).status_code == 200
    doors.worker.say("authority", c.RevokeApiKey(keys.id_of(key) or ""))
    assert doors.call("GET", "/v1/models", key=key).status_code == 401


SCOPED: dict[str, tuple[str, str, str]] = {
    "reading": ("read", "GET", "/v1/training_clients"),
    "training": ("train", "POST", "/v1/training_clients"),
    "packaging": ("package", "POST", "/v1/packages"),
    "auditing": ("audit", "GET", "/v1/audit_logs"),
}


@pytest.mark.parametrize("name", SCOPED)
def test_a_key_opens_what_its_scopes_name_and_nothing_else(doors: Doors, name: str) -> None:
    scope, method, path = SCOPED[name]
    body: dict[str, Any] = {"json": {}} if method == "POST" else {}
    lacking = doors.issue(TENANT, tuple(set(keys.SCOPES) - {scope}))
    answer = doors.call(method, path, key=lacking, **body)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert scope in answer.json()["detail"]
    assert doors.call(method, path, key=doors.issue(TENANT, (scope,)), **body).status_code in (200, 422)


def test_every_route_but_the_open_ones_asks_for_a_key(doors: Doors) -> None:
    for path, methods in create_app(doors.platform).openapi()["paths"].items():
        for method in methods:
            if path not in OPEN:
                answer = doors.client.request(method.upper(), path.replace("{seq}", "0"), json={})
                assert answer.status_code == 401, (method, path, answer.text)


def test_another_tenants_things_do_not_exist(doors: Doors) -> None:
    run = doors.create()
    future = doors.forward_backward(run)["future_id"]
    doors.worker.take(run)
    artifact = doors.worker.saved(run, through=0, step=0).hex()
    for path, code in {
        f"/v1/training_clients/{run}": "unknown_training_client",
        f"/v1/futures/{future}": "unknown_future",
        f"/v1/futures/{future}/result?timeout=0": "unknown_future",
        f"/v1/artifacts/{artifact}": "unknown_artifact",
        "/v1/ledger/acme/checkpoint": "not_found",
        "/v1/ledger/acme/proof/0": "not_found",
    }.items():
        answer = doors.call("GET", path, key=doors.other_key)
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    for path, body in {
        f"/v1/training_clients/{run}/forward_backward": {"batch": batch()},
        f"/v1/training_clients/{run}/close": None,
        f"/v1/futures/{future}/cancel": None,
    }.items():
        assert doors.call("POST", path, key=doors.other_key, json=body).status_code == 404
    assert doors.get("/v1/training_clients", key=doors.other_key)["items"] == []
    assert all(entry["chain"] == "globex" for entry in doors.get("/v1/audit_logs", key=doors.other_key)["items"])
    own = doors.post("/v1/training_clients", {"model_ref": "tiny"}, key=doors.other_key)["training_client_id"]
    answer = doors.call(
        "POST", f"/v1/training_clients/{own}/load_state", key=doors.other_key, json={"artifact_id": artifact}
    )
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_artifact")
