"""``TG_TEST_REQUIRE`` names the servers that a run of the suite must really meet."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def required() -> frozenset[str]:
    """The names given, e.g. ``kafka,postgres``."""
    return frozenset(filter(None, os.environ.get("TG_TEST_REQUIRE", "").split(",")))


def absent(name: str, why: str) -> NoReturn:
    """Skip loudly, or fail when the server is required."""
    if name in required():
        pytest.fail(f"TG_TEST_REQUIRE names {name}, but {why}")
    pytest.skip(f"{name}: {why}")
