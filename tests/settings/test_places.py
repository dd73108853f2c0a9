"""Ledger, read models and blobs lie where their settings say, for every process that opens them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tensorguard.cli.main import run

from producers.settings.fields import ABOUT
from tests.support.doors import TENANT, open_doors, prepare_installation

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("producers", "processors", "projections", "api")
CODE = [path for room in ROOMS for path in (ROOT / room).rglob("*.py") if "settings" not in path.parts]


def test_an_installation_whose_parts_lie_elsewhere_works_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir, ledger, views, blobs = (tmp_path / name for name in ("data", "log/l.db", "views/v.db", "sealed"))
    ledger.parent.mkdir()
    views.parent.mkdir()
    monkeypatch.setenv("TG_LOG_URL", f"sqlite:///{ledger}")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{views}")
    monkeypatch.setenv("TG_BLOB_URL", f"file://{blobs}")
    with open_doors(prepare_installation(data_dir)) as doors:
        doors.create(metadata={"a": 1})
    assert list((blobs / TENANT / "metadata").iterdir())
    assert views.is_file()
    assert run(["projections", "rebuild", "--data-dir", str(data_dir)]) == 0
    capsys.readouterr()
    assert run(["ledger", "head", "--data-dir", str(data_dir), "--json"]) == 0
    assert TENANT in {head["chain"] for head in json.loads(capsys.readouterr().out)}
    assert ledger.is_file()
    assert not {"ledger.db", "views.db", "blobs"} & {path.name for path in data_dir.iterdir()}


def test_config_show_tells_values_and_sources_and_masks_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.toml").write_text("max_batch_rows = 7\n")
    monkeypatch.setenv("TG_SECRET_KEY", "sesame" * 6)
    monkeypatch.delenv("TG_PORT", raising=False)
    assert run(["config", "show", "--data-dir", str(tmp_path), "--port", "9", "--json"]) == 0
    out = capsys.readouterr().out
    rows = {row["setting"]: row for row in json.loads(out)}
    assert "sesame" not in out
    told = {name: (row["value"], row["source"]) for name, row in rows.items()}
    assert told["TG_PORT"] == (9, "flag")
    assert told["TG_MAX_BATCH_ROWS"] == (7, "file")
    assert told["TG_SECRET_KEY"] == ("********", "environment")
    assert told["TG_TLS_KEY"] == (None, "default")
    assert run(["config", "show", "--data-dir", str(tmp_path)]) == 0
    assert "TG_MAX_BATCH_ROWS" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(ABOUT.keys() - {"data_dir", "config", "log_url", "database_url", "blob_url"}))
def test_every_setting_is_read_by_somebody(name: str) -> None:
    assert [path for path in CODE if f".{name}" in path.read_text()], f"nothing reads {name}"


@pytest.mark.parametrize("name", ["ledger.db", '"views.db"', '"blobs"'])
def test_nobody_but_the_settings_knows_where_a_part_lies(name: str) -> None:
    opened = [path for path in CODE for line in path.read_text().splitlines() if f"/ {name}" in line]
    assert not opened


def test_nobody_reads_a_variable_of_ours_past_the_settings() -> None:
    lines = [
        line for path in CODE for line in path.read_text().splitlines() if "os.environ" in line or "getenv" in line
    ]
    assert not [line for line in lines if "TG_" in line]
