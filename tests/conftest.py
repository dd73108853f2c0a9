"""What holds for every test: how fast this machine is today is no claim, and what takes long goes first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

_configure = structlog.configure


def _configure_uncached(**given: Any) -> None:
    """What a test captures must not depend on which logger an earlier test of the same process has used."""
    _configure(**{**given, "cache_logger_on_first_use": False})


structlog.configure = _configure_uncached

LONG = ("e2e", "demo", "docs", "bench")
"""Folders whose few tests take minutes: side by side with others, what starts last ends last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by how long they take."""
    folders = [Path(__file__).parent / name for name in LONG]
    items.sort(key=lambda item: not any(item.path.is_relative_to(folder) for folder in folders))
