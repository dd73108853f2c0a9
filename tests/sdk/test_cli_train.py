"""`tg-tinker train` makes each step once, from the files, whatever ends it and however it goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from tg_tinker.cli.main import run

from tests.sdk import simulator as simulation
from tests.sdk.simulator import Simulator
from tests.support.tiny_model import CHAT, build_tiny_tokenizer

Captured = pytest.CaptureFixture[str]
EXAMPLES = 10


@pytest.fixture
def server(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Simulator:
    monkeypatch.setenv("TG_TINKER_BASE_URL", simulator.url)
    monkeypatch.setenv("TG_TINKER_API_KEY", simulation.API_KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = build_tiny_tokenizer(tmp_path / "tokenizer", CHAT)
    simulator.tokenizer = {path.name: path.read_bytes() for path in folder.iterdir()}
    return simulator


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    turns = ([{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}] for n in range(EXAMPLES))
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": turn}) + "\n" for turn in turns))
    return path


def _train(*arguments: str | Path) -> int:
    return run(["train", "small", *map(str, arguments), "--rows", "4", "--seed", "5"])


def _sent(server: Simulator, kind: str) -> list[Any]:
    return [seen.body for seen in server.seen if seen.path.endswith(f"/{kind}")]


def _batches(server: Simulator) -> list[Any]:
    return [body["batch"] for body in _sent(server, "forward_backward")]


def test_epochs_are_other_orders_of_the_same_examples(server: Simulator, chats: Path, capsys: Captured) -> None:
    assert _train(chats, "--epochs", "2", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["training_client_id"], made["step"]) == ("run-1", 6)
    rows = [row for batch in _batches(server) for row in batch["input_ids"]]
    assert len(rows) == 2 * EXAMPLES
    assert [body["name"] for body in _sent(server, "save_state")] == ["trained"]
    rates = [body["learning_rate"] for body in _sent(server, "optim_step")]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1e-4


def test_the_same_command_sends_the_same_again(server: Simulator, chats: Path) -> None:
    for _ in range(2):
        assert _train(chats, "--epochs", "3") == 0
    found = _batches(server)
    assert found[: len(found) // 2] == found[len(found) // 2 :]
    assert found[0] != found[3]


def test_ctrl_c_ends_after_a_step_saves_and_says_how_to_go_on(
    server: Simulator, chats: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _train(chats, "--steps", "7") == 0
    whole = _batches(server)
    server.seen.clear()
    submit = server.submit

    def interrupted(run_id: str, kind: str, body: Any) -> Any:
        if len(_sent(server, "optim_step")) == 3 and kind == "optim_step":
            signal.raise_signal(signal.SIGINT)
        return submit(run_id, kind, body)

    monkeypatch.setattr(server, "submit", interrupted)
    assert _train(chats, "--steps", "7") == 130
    assert "--resume run-2" in capsys.readouterr().err
    saved = _sent(server, "save_state")[0]["name"]
    assert saved.startswith("trained-step-")
    assert _train(chats, "--steps", "7", "--resume", "run-2") == 0
    assert _batches(server) == whole
    assert server.runs["run-2"]["step"] == 7


def test_steps_that_a_server_lost_are_made_again(
    server: Simulator, chats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = server.submit

    def losing(run_id: str, kind: str, body: Any) -> Any:
        if len(_sent(server, "forward_backward")) == 4 and not server.runs[run_id]["generation"]:
            server.roll_back(run_id, 1, None)
        return submit(run_id, kind, body)

    monkeypatch.setattr(server, "submit", losing)
    assert _train(chats, "--steps", "6") == 0
    assert server.runs["run-1"]["step"] == 6


KINDS = {
    "text": (b"To be, or not to be\n\nthat is the question\n", "data.txt", "text"),
    "JSON Lines of texts": (b'{"text": "To be, or not to be"}\n', "data.jsonl", "text"),
    "pairs": (b'{"prompt": "To be, ", "completion": "or not to be"}\n', "data.jsonl", "pairs"),
}


@pytest.mark.parametrize(("content", "name", "form"), KINDS.values(), ids=KINDS)
def test_each_kind_of_file_is_read(server: Simulator, tmp_path: Path, content: bytes, name: str, form: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert _train(tmp_path / name, "--format", form, "--schedule", "constant") == 0
    assert len(_batches(server)) == 1


WRONG = {
    "no such file": (["none.jsonl"], 2, "data_file_unreadable"),
    "an ending that says nothing": (["data.bin"], 2, "usage"),
    "no conversation": (["bad.jsonl"], 2, "malformed_chat"),
    "no rate": (["bad.jsonl", "--learning-rate", "0"], 2, "usage"),
    "an unknown model": (["bad.jsonl"], 4, "unknown_model"),
}


@pytest.mark.parametrize(("arguments", "code", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_by_its_code(
    server: Simulator,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"messages": []}\n')
    model = "other" if told == "unknown_model" else "small"
    assert run(["train", model, *arguments]) == code
    assert f"error[{told}]" in capsys.readouterr().err
