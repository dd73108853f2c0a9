"""The operations page names every setting there is, word for word as the code does, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from producers.settings.about import ELSEWHERE
from producers.settings.fields import ABOUT, variable
from producers.settings.table import documented, documented_elsewhere

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("schemas", "producers", "processors", "projections", "api", "edge", "sdk", "tests")
NAME = re.compile(r"\bTG_[A-Z]+(?:_[A-Z]+)*\b")
PAGE = (ROOT / "docs" / "operations.md").read_text()
SOURCES = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]


def rows_below(heading: str) -> list[str]:
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize(
    ("heading", "rows"), [("## Settings", documented()), ("### Outside of a server", documented_elsewhere())]
)
def test_the_page_has_the_rows_of_the_code_and_no_others(heading: str, rows: list[str]) -> None:
    assert rows_below(heading) == rows, "docs/operations.md needs these rows:\n" + "\n".join(rows)


def test_every_variable_that_the_code_names_is_a_known_setting() -> None:
    named = {name for path in (*SOURCES, ROOT / "Makefile") for name in NAME.findall(path.read_text())}
    assert named <= {variable(name) for name in ABOUT} | set(ELSEWHERE)
