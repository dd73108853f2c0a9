"""What holds for every test: how fast this machine is today is no claim, and what takes long goes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

LONG = ("e2e", "demo", "docs", "bench")
"""Folders whose few tests take minutes: side by side with others, what starts last ends last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by how long they take."""
    folders = [Path(__file__).parent / name for name in LONG]
    items.sort(key=lambda item: not any(item.path.is_relative_to(folder) for folder in folders))
