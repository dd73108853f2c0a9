from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.health import trouble
from api.observability.ledger import PROCESSORS, LedgerStanding, look
from api.roll import rolls
from producers.installation import Installation
from tests.support.server import LiveServer, tensorguard, tensorguard_json
from tests.support.tiny_model import VOCABULARY, build_tiny_model

CANARY = "the canary sings in the coal mine"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    root = tmp_path_factory.mktemp("live")
    server = LiveServer(root / "data", root / "server.log").start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def client(live: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    key = tensorguard_json("keys", "issue", "--data-dir", live.data_dir, "--tenant", "acme")["api_key"]
    model = build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    tensorguard_json("models", "add", "tiny", model, "--data-dir", live.data_dir)
    with httpx.Client(base_url=live.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as opened:
        yield opened


def finished(client: httpx.Client, future: dict[str, Any]) -> Any:
    for _ in range(4):
        answer = client.get(f"/v1/futures/{future['future_id']}/result")
        if answer.status_code == 200:
            return answer.json()
    raise AssertionError(answer.text)


def test_a_real_server_trains_samples_saves_and_loads(live: LiveServer, client: httpx.Client) -> None:
    run = client.post("/v1/training_clients", json={"model_ref": "tiny", "metadata": {"note": CANARY}}).json()
    base = f"/v1/training_clients/{run['training_client_id']}"
    ids = [[(3 * row + column) % VOCABULARY for column in range(8)] for row in range(2)]
    batch = {"input_ids": ids, "attention_mask": [[1] * 8] * 2, "labels": ids}
    losses = []
    for _ in range(3):
        forward = client.post(f"{base}/forward_backward", json={"batch": batch}).json()
        step = client.post(f"{base}/optim_step", json={"learning_rate": 0.01}).json()
        losses.append(finished(client, forward)["result"]["loss"])
        assert finished(client, step)["status"] == "completed"
    assert losses[-1] < losses[0]
    asked = client.post(f"{base}/sample", json={"prompts": [CANARY], "sampling_config": {"max_tokens": 4, "seed": 1}})
    sampled = finished(client, asked.json())["result"]
    assert sampled["samples"][0]["prompt"] == CANARY
    assert sampled["model_step"] == 3
    saved = finished(client, client.post(f"{base}/save_state", json={"name": "first", "metadata": {"k": 1}}).json())
    assert saved["result"]["metadata"] == {"k": 1}
    body = {"artifact_id": saved["result"]["artifact_id"]}
    loaded = finished(client, client.post(f"{base}/load_state", json=body).json())
    assert loaded["result"]["step"] == 3
    assert client.get(base).json()["last_durable_artifact_id"] == body["artifact_id"]


def test_a_layer_that_the_model_lacks_is_refused_at_creation(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/training_clients", json={"model_ref": "tiny", "lora_config": {"target_modules": ["nope"]}}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "q_proj" in answer.json()["detail"]


def test_a_trainer_that_dies_is_replaced_and_only_what_was_kept_in_memory_is_lost(
    live: LiveServer, client: httpx.Client
) -> None:
    ids = [[1, 2, 3, 4]]
    batch = {"input_ids": ids, "attention_mask": [[1] * 4], "labels": ids}

    def begun(**settings: str) -> tuple[str, dict[str, Any]]:
        run = client.post("/v1/training_clients", json={"model_ref": "tiny", **settings}).json()
        base = f"/v1/training_clients/{run['training_client_id']}"
        forward = client.post(f"{base}/forward_backward", json={"batch": batch}).json()
        assert finished(client, forward)["status"] == "completed"
        return base, forward

    base, forward = begun(batch_retention="memory")
    sealed_base, sealed = begun()
    live.kill_child("processors.trainer")
    live.wait_ready()
    step = client.post(f"{sealed_base}/optim_step", json={"generation": 0}).json()
    assert finished(client, step)["result"]["step"] == 1
    assert client.get(f"/v1/futures/{sealed['future_id']}").json()["status"] == "completed"
    again = client.post(f"{base}/forward_backward", json={"batch": batch, "generation": 0})
    lost = client.get(f"/v1/futures/{forward['future_id']}").json()
    if again.status_code == 202:  # it was taken in before the new lease: then it is lost with the others, or completes
        finished(client, again.json())
        lost = client.get(f"/v1/futures/{forward['future_id']}").json()
    assert lost["status"] == "lost"
    assert lost["error"]["code"] == "operation_lost"
    assert lost["error"]["last_durable_step"] == 0


def awaited(client: httpx.Client, export_id: str) -> dict[str, Any]:
    for _ in range(6):
        made: dict[str, Any] = client.get(f"/v1/exports/{export_id}", params={"wait": 30}).json()
        if made["status"] != "pending":
            break
    return made


def test_a_real_server_hands_a_checkpoint_out_as_a_folder_and_merged(client: httpx.Client) -> None:
    run = client.post("/v1/training_clients", json={"model_ref": "tiny"}).json()["training_client_id"]
    saved = client.post(f"/v1/training_clients/{run}/save_state", json={"name": "first"}).json()
    artifact = finished(client, saved)["result"]["artifact_id"]
    for kind, name in (("peft", "adapter_config.json"), ("merged", "config.json")):
        asked = client.post(f"/v1/artifacts/{artifact}/exports", json={"format": kind}).json()
        made = awaited(client, asked["export_id"])
        assert made["status"] == "ready", made
        answer = client.get(f"/v1/exports/{asked['export_id']}/files/{name}", headers={"Range": "bytes=0-0"})
        assert (answer.status_code, answer.content) == (206, b"{")


def test_the_health_check_of_a_container_knows_its_processes(live: LiveServer, client: httpx.Client) -> None:
    assert trouble(live.data_dir) is None
    [roll] = rolls(live.data_dir)
    assert roll.url == live.url
    assert set(roll.running) == {"signer", "trainer", "packager"}


def test_a_second_server_on_the_same_data_dir_is_refused_by_epoch(live: LiveServer, client: httpx.Client) -> None:
    second = tensorguard("server", "--data-dir", live.data_dir, "--port", "0", check=False)
    assert second.returncode == 1
    assert "epoch 1" in second.stderr
    assert "writer_active" in second.stderr


def test_the_ledger_is_read_and_proven_beside_a_running_server(
    live: LiveServer, client: httpx.Client, tmp_path: Path
) -> None:
    heads = tensorguard_json("ledger", "head", "--data-dir", live.data_dir)
    assert [head["chain"] for head in heads] == ["acme", "platform"]
    entry = client.get("/v1/audit_logs", params={"event": "RunCreated"}).json()["items"][0]
    receipt = tmp_path / "receipt"
    tensorguard("ledger", "prove", entry["event_id"], "--out", receipt, "--data-dir", live.data_dir)
    root = tmp_path / "trust-root.json"
    root.write_bytes(client.get("/.well-known/tensorguard/trust-root.json").content)
    assert tensorguard_json("audit", "receipt", receipt)["seq"] == entry["seq"]
    by_rest = tmp_path / "by-rest"
    by_rest.write_bytes(client.get(f"/v1/ledger/acme/proof/{entry['seq']}").content)
    assert tensorguard_json("audit", "receipt", by_rest)["seq"] == entry["seq"]
    export = tmp_path / "export"
    tensorguard("ledger", "export", "--out", export, "--data-dir", live.data_dir)
    assert tensorguard_json("audit", "verify", export, "--decisions")["verified"]


def standing(live: LiveServer) -> LedgerStanding:
    with contextlib.closing(Installation.open(live.data_dir)) as installation:
        return look(installation, installation.engine())


def test_every_processor_of_a_running_server_says_how_far_it_has_read(live: LiveServer, client: httpx.Client) -> None:
    found = standing(live)
    assert found.sequencer_runs
    assert {at.reader for at in found.positions if at.process is not None} == set(PROCESSORS)
    assert all(at.total is not None for at in found.positions)
    assert {each.signed_size > 0 for each in found.chains} == {True}
    key = tensorguard_json("keys", "issue", "--data-dir", live.data_dir, "--tenant", "op", "--scope", "metrics")
    page = httpx.get(f"{live.url}/metrics", headers={"Authorization": f"Bearer {key['api_key']}"}).text
    assert all(f'tensorguard_processor_lag_records{{processor="{name}"}}' in page for name in PROCESSORS)


def test_views_are_not_rebuilt_under_a_running_server(live: LiveServer, client: httpx.Client) -> None:
    refused = tensorguard("projections", "rebuild", "--data-dir", live.data_dir, check=False)
    assert refused.returncode == 1
    assert "views_in_use" in refused.stderr


def test_neither_log_nor_data_dir_holds_what_a_client_wrote(live: LiveServer, client: httpx.Client) -> None:
    client.post("/v1/training_clients", json={"model_ref": CANARY, CANARY: CANARY})
    client.get(f"/v1/{CANARY}")
    assert CANARY not in live.log()
    assert all(json.loads(line) for line in live.log().splitlines() if line.startswith("{"))
    files = [path for path in live.data_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_children_do_not_outlive_a_killed_server(live: LiveServer) -> None:
    watched = [os.pidfd_open(pid) for pid in children(live)]
    live.kill()
    assert all(has_ended(descriptor) for descriptor in watched)
    found = standing(live)
    assert not found.sequencer_runs
    assert {at.reader for at in found.positions if at.total is not None} == {"signer", "views"}


def test_a_server_ends_cleanly_within_ten_seconds(tmp_path: Path) -> None:
    server = LiveServer(tmp_path / "data", tmp_path / "log").start()
    watched = [os.pidfd_open(pid) for pid in children(server)]
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10
    assert all(has_ended(descriptor) for descriptor in watched)
    assert not (tmp_path / "data" / "run" / "server.json").exists()


def children(server: LiveServer) -> list[int]:
    found = [server.child(f"{module}") for module in ("producers.signer", "processors.trainer", "processors.packager")]
    assert all(found)
    return [pid for pid in found if pid]


def has_ended(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 10)[0])


def test_a_server_on_a_damaged_ledger_ends_with_a_typed_error(data_dir: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(data_dir / "ledger.db")) as db, db:
        db.execute("UPDATE records SET data = zeroblob(length(data)) WHERE seq = 3")
    server = LiveServer(data_dir, tmp_path / "log").start(ready=False)
    assert server.process is not None
    assert server.process.wait(30) == 1
    assert "ledger_corrupt" in server.log()
    assert "audit verify" in server.log()
    assert "Traceback" not in server.log()


def test_a_taken_address_is_refused_before_anything_starts(data_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = LiveServer(data_dir, tmp_path / "log", port=taken.getsockname()[1]).start(ready=False)
        assert server.process is not None
        assert server.process.wait(30) == 1
    assert "address_unavailable" in server.log()
    assert "child_started" not in server.log()
