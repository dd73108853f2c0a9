from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from api import keys
from api.app import create_app
from api.errors import KINDS
from producers.deciders.context import CODES
from producers.deciders.values import FAILURES
from tests.support.doors import TENANT, Doors

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text()
ROUTE = re.compile(r"^\| `(GET|POST|DELETE) (/[^`]*)` \| (\S+) \| (\d{3}) \|", re.MULTILINE)
CODE = re.compile(r"^\| `([a-z_]+)` \| (\d{3}) \| ([^|]+) \| (.+) \|$", re.MULTILINE)
SCOPE = re.compile(r"^\| `([a-z]+)` \| ([^|]+) \|$", re.MULTILINE)
ROUTES = {(method, path): (scope, int(status)) for method, path, scope, status in ROUTE.findall(PAGE)}


def test_the_page_names_every_route_and_no_other(doors: Doors) -> None:
    described = create_app(doors.platform).openapi()["paths"]
    routes = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert set(ROUTES) == routes
    for (method, path), (_, status) in ROUTES.items():
        assert str(status) in described[path][method.lower()]["responses"]


def test_the_page_names_every_code_with_its_status_title_and_next_step() -> None:
    named = {code: (int(status), title, step) for code, status, title, step in CODE.findall(PAGE)}
    assert named == {code: (kind.status, kind.title, kind.next_step) for code, kind in KINDS.items()}


def test_every_refusal_of_a_decider_and_every_failure_of_an_operation_has_a_problem() -> None:
    assert (CODES | FAILURES) - KINDS.keys() == frozenset()


def test_the_page_names_every_scope_in_its_words() -> None:
    assert {name: words for name, words in SCOPE.findall(PAGE) if name in keys.SCOPES} == keys.SCOPES


@pytest.mark.parametrize("scope", keys.SCOPES)
def test_each_route_asks_for_the_scope_that_the_page_names(doors: Doors, scope: str) -> None:
    only, without = doors.issue(TENANT, (scope,)), doors.issue(TENANT, tuple(set(keys.SCOPES) - {scope}))
    for (method, path), (wanted, _) in ROUTES.items():
        sent: dict[str, Any] = {"json": {}} if method == "POST" else {}
        concrete = path.replace("{seq}", "0")
        if wanted == scope:
            assert doors.call(method, concrete, key=without, **sent).status_code == 403, path
            assert doors.call(method, concrete, key=only, **sent).status_code != 403, path


def test_every_route_declares_its_problems(doors: Doors) -> None:
    described = create_app(doors.platform).openapi()
    assert "Problem" in described["components"]["schemas"]
    for (method, path), (scope, _) in ROUTES.items():
        responses = described["paths"][path][method.lower()]["responses"]
        if scope != "none":
            assert set(responses) >= {"401", "403", "422", "503"}
            assert "application/problem+json" in responses["401"]["content"]
