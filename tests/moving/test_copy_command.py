"""``tensorguard ledger copy`` as an operator runs it."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.cli.main import run

from producers.engines.sqlite import SqliteEngine
from producers.sequencer import SequencerLock
from tests.moving.desk import records
from tests.support.ledgers import Ledger

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Ledger(tmp_path / "data").close()
    return tmp_path


def url(folder: Path, name: str) -> str:
    return f"sqlite:///{folder / name / 'ledger.db'}"


def copy(folder: Path, *more: str, source: str = "data", destination: str = "there") -> int:
    ends = ["--from", url(folder, source), "--to", url(folder, destination)]
    return run(["ledger", "copy", "--data-dir", str(folder / "data"), *ends, *more])


def said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_ledger_is_copied_moved_and_goes_on_where_the_setting_says(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert copy(folder, "--keep", "--json") == 0
    assert said(capsys)["moved_to"] is None
    issue = ["keys", "issue", "--data-dir", str(folder / "data"), "--tenant", "acme", "--scope", "train", "--json"]
    assert run(issue) == 0
    assert copy(folder, "--name", "there-1") == 0
    assert f"set TG_LOG_URL={url(folder, 'there')}" in capsys.readouterr().out
    assert run(issue) == 1
    assert json.loads(capsys.readouterr().err)["code"] == "ledger_moved"
    monkeypatch.setenv("TG_LOG_URL", url(folder, "there"))
    assert run(issue) == 0
    assert run(["ledger", "export", "--data-dir", str(folder / "data"), "--out", str(folder / "out")]) == 0
    assert run(["audit", "verify", str(folder / "out"), "--decisions", "--require-signed"]) == 0


def test_a_running_server_is_not_moved_away_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(SequencerLock(folder / "data")) as lock:
        lock.acquire()
        assert copy(folder, "--json") == 1
    assert json.loads(capsys.readouterr().err)["code"] == "writer_active"
    with closing(SqliteEngine(folder / "there" / "ledger.db")) as there:
        assert records(there) == {}


@pytest.mark.parametrize(
    ("arguments", "ends", "told"),
    [
        (("--keep", "--name", "there-1"), {}, "A copy has no name"),
        ((), {"source": "nowhere"}, "There is no ledger"),
        ((), {"destination": "data"}, "one place"),
        ((), {"destination": "data/../data"}, "one place"),
    ],
)
def test_wrong_usage_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], ends: dict[str, str], told: str
) -> None:
    assert copy(folder, *arguments, **ends) == 2
    assert told in capsys.readouterr().err
    assert not (folder / "nowhere").exists()


def test_a_url_that_is_none_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--from", url(folder, "data"), "--to", "ftp://there", "--data-dir", str(folder / "data")]
    assert run(["ledger", "copy", *arguments]) != 0
    assert "TG_LOG_URL" in capsys.readouterr().err
