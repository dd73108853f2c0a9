"""`tg-tinker` does what the client does, prints JSON when asked, and says by its exit code what went wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tg_tinker.cli.main import run

from tests.sdk import simulator as simulation
from tests.sdk.simulator import Simulator
from tests.sdk.test_training_client import BATCH

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def server(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    monkeypatch.setenv("TG_TINKER_BASE_URL", simulator.url)
    monkeypatch.setenv("TG_TINKER_API_KEY", simulation.API_KEY)
    monkeypatch.setenv("COLUMNS", "200")
    return simulator


def _json(capsys: Captured, *arguments: str | Path) -> Any:
    assert run([*map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_whole_session_by_commands(server: Simulator, capsys: Captured, tmp_path: Path) -> None:
    batch = tmp_path / "batch.json"
    batch.write_text(json.dumps(BATCH))
    assert [model["name"] for model in _json(capsys, "models")] == ["small"]
    run_id = _json(capsys, "clients", "create", "small")["training_client_id"]
    assert _json(capsys, "forward-backward", run_id, batch)["loss"] == 2.5
    assert _json(capsys, "forward", run_id, batch)["loss"] == 1.0
    assert _json(capsys, "optim-step", run_id, "--learning-rate", "0.5", "--max-grad-norm", "2")["learning_rate"] == 0.5
    assert [seen.body["max_grad_norm"] for seen in server.seen if seen.path.endswith("/optim_step")] == [2.0]
    assert _json(capsys, "sample", run_id, "abc", "--max-tokens", "3")["samples"][0]["completion"] == "cba"
    artifact = _json(capsys, "save-state", run_id, "first", "--no-include-optimizer")["artifact_id"]
    assert server.seen[-1].body["include_optimizer"] is False
    assert _json(capsys, "load-state", run_id, artifact)["step"] == 1
    assert [info["step"] for info in _json(capsys, "clients", "list")] == [1]
    assert _json(capsys, "clients", "get", run_id)["status"] == "open"
    assert _json(capsys, "clients", "close", run_id)["status"] == "closed"
    assert _json(capsys, "artifacts", "list") == []


def test_futures_can_be_left_and_found_again(server: Simulator, capsys: Captured) -> None:
    run_id = _json(capsys, "clients", "create", "small")["training_client_id"]
    server.held = True
    future = _json(capsys, "sample", run_id, "abc", "--no-wait")
    assert len(future["commitment"]["salt"]) == 64
    future_id = future["future_id"]
    assert _json(capsys, "futures", "get", future_id)["status"] == "pending"
    assert run(["futures", "result", future_id, "--timeout", "0"]) == 8
    capsys.readouterr()
    assert _json(capsys, "futures", "cancel", future_id)["cancellation_requested"]
    server.release()
    assert run(["futures", "result", future_id]) == 1
    assert "error[cancelled]" in capsys.readouterr().err


def test_a_configuration_file_is_taken_whole(server: Simulator, capsys: Captured, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_ref": "other", "lora_config": {"rank": 4}, "seed": 9}))
    created = _json(capsys, "clients", "create", "small", "--config", config)
    assert (created["config"]["lora_config"]["rank"], created["config"]["seed"]) == (4, 9)


def test_a_package_is_made_and_fetched_with_its_receipt(server: Simulator, capsys: Captured, tmp_path: Path) -> None:
    _json(capsys, "clients", "create", "small")
    package = _json(capsys, "packages", "create", "aa" * 16, "bb" * 32, "--expires-at", "2030-01-02T03:04:05+0000")
    assert package["status"] == "signed"
    assert server.packages[package["package_id"]]["expires_at"] == "2030-01-02T03:04:05+00:00"
    assert _json(capsys, "packages", "get", package["package_id"])["size_bytes"] == len(simulation.CONTENT)
    out = tmp_path / "adapter.tgsp"
    written = _json(capsys, "packages", "download", package["package_id"], out)
    assert out.read_bytes() == simulation.CONTENT
    assert Path(written["receipt"]).read_bytes().startswith(b"c2sp.org/tlog-proof@v1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.tgsp", "adapter.tgsp.tlog-proof"]


def test_a_download_that_fails_leaves_no_file(server: Simulator, capsys: Captured, tmp_path: Path) -> None:
    assert run(["packages", "download", "ff" * 16, str(tmp_path / "x.tgsp")]) == 4
    assert list(tmp_path.iterdir()) == []
    assert "error[not_found]" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_without_a_traceback(server: Simulator, capsys: Captured) -> None:
    package_id = _json(capsys, "packages", "create", "aa" * 16, "bb" * 32)["package_id"]
    assert run(["packages", "download", package_id, "/nonexistent/folder/x.tgsp"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_the_audit_log_is_filtered_and_paged(server: Simulator, capsys: Captured) -> None:
    entries = _json(capsys, "audit-logs", "--event", "StepApplied", "--limit", "210")
    assert (len(entries), {entry["event"] for entry in entries}) == (210, {"StepApplied"})


def test_people_get_tables_and_markup_is_shown_as_it_is(server: Simulator, capsys: Captured) -> None:
    run_id = _json(capsys, "clients", "create", "small")["training_client_id"]
    assert run(["sample", run_id, "[red]x"]) == 0
    printed = capsys.readouterr().out
    assert "x]der[" in printed
    assert "[red]x" in printed
    assert run(["clients", "list"]) == 0
    assert "last_durable_step" in capsys.readouterr().out


WRONG: dict[str, tuple[list[str], int, str]] = {
    "no such command": (["frobnicate"], 2, ""),
    "no such option": (["clients", "list", "--frob"], 2, ""),
    "no such batch file": (["forward-backward", "run-1", "/nonexistent.json"], 2, "usage"),
    "no such run": (["clients", "get", "run-9"], 4, "unknown_training_client"),
    "no such future": (["futures", "get", "00"], 4, "unknown_future"),
    "no such model": (["clients", "create", "huge"], 4, "unknown_model"),
    "no model at all": (["clients", "create"], 2, "usage"),
}


@pytest.mark.parametrize(("arguments", "status", "code"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_has_its_exit_code(
    arguments: list[str], status: int, code: str, server: Simulator, capsys: Captured
) -> None:
    assert run([*arguments, "--json"]) == status
    error = capsys.readouterr().err
    if code:
        assert json.loads(error)["error"]["code"] == code


def test_a_rollback_has_an_exit_code_of_its_own(server: Simulator, capsys: Captured) -> None:
    run_id = _json(capsys, "clients", "create", "small")["training_client_id"]
    server.held = True
    future_id = _json(capsys, "optim-step", run_id, "--no-wait")["future_id"]
    server.roll_back(run_id, step=0, artifact_id=None)
    assert run(["futures", "result", future_id, "--json"]) == 6
    assert json.loads(capsys.readouterr().err)["error"]["problem"]["last_durable_step"] == 0


def test_the_key_may_lie_in_a_file(
    server: Simulator, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TG_TINKER_API_KEY")
    assert run(["clients", "list"]) == 3
    capsys.readouterr()
    key = tmp_path / "key"
    key.write_text(simulation.API_KEY + "\n")
    assert _json(capsys, "--api-key-file", key, "clients", "list") == []


UNUSABLE: dict[str, tuple[str, ...]] = {
    "no object for a configuration": ("clients", "create", "small", "--config", "list.json"),
    "a NaN in metadata": ("clients", "create", "--config", "nan.json"),
    "half a character in metadata": ("clients", "create", "--config", "surrogate.json"),
    "a learning rate of NaN": ("optim-step", "{run}", "--learning-rate", "nan"),
    "no mass to sample from": ("sample", "{run}", "abc", "--top-p", "0"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_settings_without_sense_are_told_without_a_traceback(
    name: str, server: Simulator, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("[1]")
    Path("nan.json").write_text('{"model_ref": "small", "metadata": {"k": NaN}}')
    Path("surrogate.json").write_text('{"model_ref": "small", "metadata": {"k": "\\ud800"}}')
    run_id = _json(capsys, "clients", "create", "small")["training_client_id"]
    seen = len(server.seen)
    assert run([part.format(run=run_id) for part in UNUSABLE[name]] + ["--json"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["next_step"]
    assert [each.method for each in server.seen[seen:] if each.method == "POST"] == []
