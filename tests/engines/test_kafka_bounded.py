"""A call of librdkafka that never returns ends its transaction, not its process."""

from __future__ import annotations

import threading

import pytest

from producers.engines.kafka import bounded
from producers.engines.kafka.errors import CommitLostError


def test_what_returns_returns_and_what_raises_raises() -> None:
    bounded.within(5, lambda: None)
    with pytest.raises(KeyError):
        bounded.within(5, lambda: {}["gone"])


def test_what_never_returns_is_a_lost_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "_GRACE_SECONDS", 0.0)
    never = threading.Event()
    with pytest.raises(CommitLostError):
        bounded.within(0.01, never.wait)
    never.set()
