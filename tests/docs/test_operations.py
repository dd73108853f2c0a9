"""The operations page names every setting there is, with its default, and none that there is not."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from tensorguard.errors import UsageError

from api.settings import ServerSettings
from processors.trainer.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schemas", "producers", "processors", "projections", "api", "edge", "sdk")
NAME = re.compile(r"\bTG_[A-Z]+(?:_[A-Z]+)*\b")
ROW = re.compile(r"^\| `(TG_[A-Z_]+)` \| (?:`([^`]+)`|[^`|]+) \|", re.MULTILINE)
ON_THE_PAGE = dict(ROW.findall((ROOT / "docs" / "operations.md").read_text()))


def in_the_code() -> set[str]:
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    named = {name for path in (*sources, ROOT / "Makefile") for name in NAME.findall(path.read_text())}
    return named | {f"TG_{name.upper()}" for name in ServerSettings.model_fields}


def test_every_setting_is_on_the_page_and_nothing_else() -> None:
    assert set(ON_THE_PAGE) == in_the_code()


def test_the_defaults_are_those_of_the_code() -> None:
    server = {f"TG_{name.upper()}": field.default for name, field in ServerSettings.model_fields.items()}
    trainer = {f"TG_{field.name.upper()}": field.default for field in fields(Settings)}
    defaults = {**server, **{name.replace("CHECKPOINT_", "CHECKPOINT_EVERY_"): each for name, each in trainer.items()}}
    for name, default in defaults.items():
        if ON_THE_PAGE[name]:
            assert type(default)(ON_THE_PAGE[name]) == default, name


@pytest.mark.parametrize("value", ["x", "0", "-1", ""])
@pytest.mark.parametrize("name", ["TG_MAX_BODY_BYTES", "TG_MAX_BATCH_ROWS", "TG_MAX_BATCH_TOKENS"])
def test_a_setting_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name):
        ServerSettings.read(ROOT, "127.0.0.1", 0)
