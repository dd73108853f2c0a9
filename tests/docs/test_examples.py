"""The examples and the guide to the client do what they say, against a real server."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tg_tinker.cli.main import run

from tests.support.catalogue import add_model
from tests.support.pages import blocks
from tests.support.server import BIN, LiveServer, tensorguard_json
from tests.support.tiny_model import CHAT, build_tiny_model

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    running = LiveServer(folder / "data", folder / "server.log").start()
    add_model(folder / "data", "tiny", build_tiny_model(folder / "tiny", chat_template=CHAT))
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def surroundings(server: LiveServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    issued = tensorguard_json("keys", "issue", "--data-dir", server.data_dir, "--tenant", "acme")
    monkeypatch.setenv("TG_TINKER_BASE_URL", server.url)
    monkeypatch.setenv("TG_TINKER_API_KEY", issued["api_key"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def _main(name: str) -> Callable[[list[str]], None]:
    main: Callable[[list[str]], None] = runpy.run_path(str(EXAMPLES / name))["main"]
    return main


def _numbers(pattern: str, printed: str) -> list[float]:
    match = re.search(pattern, printed)
    assert match, printed
    return [float(group) for group in match.groups()]


def test_the_run_on_conversations_lowers_the_loss_on_those_held_back(capsys: pytest.CaptureFixture[str]) -> None:
    _main("chat_sft.py")(["tiny", "--epochs", "2"])
    printed = capsys.readouterr().out
    before, after, steps = _numbers(r"validation loss (\S+) before, (\S+) after (\d+) steps", printed)
    assert after < before - 0.05
    assert steps >= 8
    assert re.search(r"checkpoint [0-9a-f]{32} of run-", printed)


def test_the_run_on_plain_text_lowers_its_loss(capsys: pytest.CaptureFixture[str]) -> None:
    _main("plain_text.py")(["tiny"])
    first, last, _ = _numbers(r"loss (\S+) in the first step, (\S+) in the last of (\d+)", capsys.readouterr().out)
    assert last < first - 0.05


def test_every_example_has_been_run() -> None:
    told: Any = Path(__file__).read_text()
    assert all(f'_main("{path.name}")' in told for path in EXAMPLES.glob("*.py"))


def test_the_guide_runs_from_its_first_block_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    namespace: dict[str, Any] = {"__name__": "guide"}
    kinds = set()
    for block in blocks(ROOT / "docs" / "sdk.md"):
        kinds.add(block.info)
        if block.info == "python":
            exec(compile(block.code, "docs/sdk.md", "exec"), namespace)  # noqa: S102 -- the page is under test
        elif block.info == "bash":
            subprocess.run(["/usr/bin/env", "bash", "-euo", "pipefail", "-c", block.code], check=True, timeout=120)
    assert kinds == {"python", "bash", "bash norun"}


def test_the_command_goes_on_with_a_run_where_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "tiny", str(EXAMPLES / "data" / "chat.jsonl"), "--schedule", "constant", "--json"]
    assert run([*command, "--steps", "2"]) == 0
    begun = json.loads(capsys.readouterr().out)
    assert run([*command, "--steps", "4", "--resume", begun["training_client_id"]]) == 0
    finished = json.loads(capsys.readouterr().out)
    assert (begun["step"], finished["step"]) == (2, 4)
    assert finished["training_client_id"] == begun["training_client_id"]
