"""Telling waiters that the views moved: threads by a condition, others by a callback. Nobody polls."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """One committed batch: how many records of each chain the views now hold, and the ids that it touched."""

    sizes: Mapping[str, int]
    touched: frozenset[str]


Listener = Callable[[Notice], None]


class NoticeBoard:
    """The newest sizes, and who wants to know. Safe from any thread."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._moved = threading.Condition()
        self._sizes = dict(sizes)
        self._folded = dict(sizes)
        self._listeners: list[Listener] = []
        self._failure: Exception | None = None

    def sizes(self) -> dict[str, int]:
        """Records folded so far, by chain."""
        with self._moved:
            return dict(self._sizes)

    def size(self, chain: str) -> int:
        """Records of one chain that the views hold: what a listener is told of is in it already."""
        return self._folded.get(chain, 0)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` (from the projector's thread; it must not block) after every batch; returns its removal."""
        with self._moved:
            self._listeners.append(listener)
        return lambda: self._forget(listener)

    def post(self, notice: Notice) -> None:
        """Tell the listeners, then wake whoever waits: so who has waited for a record, has been told of it."""
        with self._moved:
            # First of all, or a listener that asks the views would get an answer that was kept from before.
            self._folded |= notice.sizes
            listeners = list(self._listeners)
        for listener in listeners:
            listener(notice)
        with self._moved:
            self._sizes |= notice.sizes
            self._moved.notify_all()

    def fail(self, failure: Exception) -> None:
        """The views stand still for good; whoever waits gets this error."""
        with self._moved:
            self._failure = failure
            self._moved.notify_all()

    def failure(self) -> Exception | None:
        """Why the views stand still, if they do."""
        with self._moved:
            return self._failure

    def wait_for(self, chain: str, seq: int, timeout: float) -> bool:
        """Block until the views hold record ``seq`` of a chain, at most so many seconds; whether they do.

        Raises:
            Exception: the failure that stopped the projector, if it stands before that record.
        """
        with self._moved:
            self._moved.wait_for(lambda: self._failure is not None or self._sizes.get(chain, 0) > seq, timeout)
            if self._sizes.get(chain, 0) > seq:
                return True
            if self._failure is not None:
                raise self._failure
            return False

    def _forget(self, listener: Listener) -> None:
        with self._moved:
            self._listeners.remove(listener)
