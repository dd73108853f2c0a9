"""The documentation says what is there: links lead somewhere, coverage names real tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#\s]+)")
ROW = re.compile(r"^\| (?P<feature>[^|]+) \| (?P<state>works|planned) \| (?P<held>[^|]*) \|$")


def _rows() -> list[re.Match[str]]:
    lines = (ROOT / "docs" / "coverage.md").read_text().splitlines()
    return [match for line in lines if (match := ROW.match(line))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not broken


def test_what_works_is_held_by_tests_that_exist() -> None:
    rows = [row for row in _rows() if row["state"] == "works"]
    assert len(rows) >= 15
    for row in rows:
        places = re.findall(r"`([^`]+)`", row["held"])
        assert places, f"no test holds: {row['feature']}"
        for place in places:
            path = ROOT / place
            assert path.is_file() or any(path.glob("test_*.py")), f"{place} holds no test"


def test_what_is_planned_claims_no_test() -> None:
    assert all(not row["held"].strip() for row in _rows() if row["state"] == "planned")


def test_every_decision_record_has_its_three_parts() -> None:
    for page in sorted((ROOT / "docs" / "adr").glob("*.md")):
        text = page.read_text()
        for part in ("**Context.**", "**Decision.**", "**Rejected.**"):
            assert part in text, f"{page.name} has no {part}"
