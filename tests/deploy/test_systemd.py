"""The units of systemd: what they start is there, and what they set is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.roles import ROLES
from producers.settings.fields import ABOUT, variable
from tests.support.server import tensorguard

UNITS = sorted((Path(__file__).resolve().parents[2] / "deploy" / "systemd").glob("*.service"))


def values(unit: Path, name: str) -> list[str]:
    """What a unit's lines of a name say."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_comes_back_and_may_do_little(unit: Path) -> None:
    assert values(unit, "Restart") == ["always"]
    assert values(unit, "User") == ["tensorguard"]
    assert values(unit, "CapabilityBoundingSet") == [""]
    assert values(unit, "ProtectSystem") == ["strict"]
    assert int(values(unit, "TimeoutStopSec")[0]) > 10, "a server has ten seconds to end"
    known = {variable(name) for name in ABOUT}
    for line in values(unit, "Environment"):
        assert {pair.partition("=")[0] for pair in line.split()} <= known


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_a_unit_starts_is_a_command_of_ours(unit: Path, tmp_path: Path) -> None:
    program, *words = values(unit, "ExecStart")[0].split()
    assert program == "/opt/tensorguard/bin/tensorguard"
    for role in ROLES if "%i" in words else ("",):
        done = tensorguard(*(role if word == "%i" else word for word in words), "--data-dir", tmp_path, "--help")
        assert "--only" in done.stdout


def test_the_template_names_every_role() -> None:
    [template] = [unit for unit in UNITS if unit.name.endswith("@.service")]
    [listed] = re.findall(r"tensorguard@\{([a-z,]+)\}", template.read_text())
    assert set(listed.split(",")) == set(ROLES)
