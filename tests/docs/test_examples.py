"""The examples do what they say, against a real server and with the data that lies beside them."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import LiveServer, tensorguard, tensorguard_json
from tests.support.tiny_model import CHAT, build_tiny_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    running = LiveServer(folder / "data", folder / "server.log").start()
    tensorguard(
        "models", "add", "tiny", build_tiny_model(folder / "tiny", chat_template=CHAT), "--data-dir", folder / "data"
    )
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


def test_the_run_on_plain_text_lowers_its_loss(capsys: pytest.CaptureFixture[str]) -> None:
    _main("plain_text.py")(["tiny"])
    first, last, _ = _numbers(r"loss (\S+) in the first step, (\S+) in the last of (\d+)", capsys.readouterr().out)
    assert last < first - 0.05


def test_every_example_has_been_run() -> None:
    told: Any = Path(__file__).read_text()
    assert all(f'_main("{path.name}")' in told for path in EXAMPLES.glob("*.py"))
