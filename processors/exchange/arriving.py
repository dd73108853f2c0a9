"""A bound on what is on its way into the hub at any moment."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from processors.exchange.errors import ExchangeError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Arriving:
    """Room for so many bytes at once. Who finds none waits for others' frames, which arrive or time out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Room for a body for the length of a block; one that is larger than everything has it all.

        Raises:
            ExchangeError: the hub ends.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._taken or self._taken + size <= self._limit)
            if self._closed:
                raise ExchangeError("The exchange ends.")
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()

    def close(self) -> None:
        """Let everyone go who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
