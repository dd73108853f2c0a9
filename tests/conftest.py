"""What holds for every test: how fast this machine is today is no claim, and what takes long goes first."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from processors.trainer.tuning import TUNING

# As in every process of ours that computes, and before torch is loaded: worker processes and servers share the cores.
os.environ.update({name: value for name, value in TUNING.items() if name not in os.environ})

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

_configure = structlog.configure


def _configure_uncached(**given: Any) -> None:
    """What a test captures must not depend on which logger an earlier test of the same process has used."""
    _configure(**{**given, "cache_logger_on_first_use": False})


structlog.configure = _configure_uncached

LONG = (
    "demo/test_demo.py",
    "e2e/test_replays.py",
    "e2e/test_kafka.py",
    "e2e/test_kills.py",
    "deploy/test_compose.py",
    "moving",
    "api",
    "e2e",
    "docs",
    "bench",
    "engines",
    "observability",
    "trainer",
)
"""Files and folders that take longest, in this order: side by side with others, what starts last ends last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by how long they take."""
    items.sort(key=lambda item: _rank(item.path))


@cache
def _rank(path: Path) -> int:
    found = [number for number, name in enumerate(LONG) if path.is_relative_to(Path(__file__).parent / name)]
    return min(found, default=len(LONG))
