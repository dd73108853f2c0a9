"""The quick start does what it says: its blocks are run in order against a real server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import blocks
from tests.support.server import BIN, LiveServer
from tests.support.tiny_model import build_tiny_model

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "http://127.0.0.1:8080"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    build_tiny_model(tmp_path / "my-model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    running = LiveServer(tmp_path / "data", tmp_path / "server.log").start()
    yield running
    running.stop()


def _run_shell(code: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["/usr/bin/env", "bash", "-euo", "pipefail", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _exported(code: str) -> dict[str, str]:
    printed = _run_shell(f"{code}\nenv -0", {})
    pairs = (entry.partition("=") for entry in printed.split("\0"))
    return {name: value for name, _, value in pairs if name.startswith("TG_TINKER_")}


@pytest.mark.timeout(600)
def test_the_quick_start_runs_from_its_first_block_to_its_last(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace: dict[str, Any] = {"__name__": "quickstart"}
    kinds = set()
    for block in blocks(ROOT / "docs" / "quickstart.md"):
        code = block.code.replace(ADDRESS, server.url)
        kinds.add(block.info)
        match block.info:
            case "python":
                exec(compile(code, "docs/quickstart.md", "exec"), namespace)  # noqa: S102 -- the page is under test
            case "bash":
                _run_shell(code, {})
            case "bash env":
                for name, value in _exported(code).items():
                    monkeypatch.setenv(name, value)
            case "bash server":
                words = ["--data-dir ./data", "--host 127.0.0.1", "--port 8080"]
                assert code.strip() == f"tensorguard server {' '.join(words)}"
            case info:
                assert info == "bash norun"
    assert kinds == {"python", "bash", "bash env", "bash server", "bash norun"}


def test_the_readme_shows_python_that_compiles() -> None:
    shown = [block.code for block in blocks(ROOT / "README.md") if block.info == "python"]
    assert shown
    for code in shown:
        compile(code, "README.md", "exec")
