"""Answers of the views kept until their chain grows: a client that asks again and again costs no database."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

CAPACITY = 4096
T = TypeVar("T")


class Remembered:
    """A bounded memory of answers. ``size_of`` gives how many records of a chain the views hold.

    An answer is kept under the size from *before* it was asked for, so that it may be newer than that, never older: the
    database commits a batch before the size moves. Safe from any thread.
    """

    def __init__(self, size_of: Callable[[str], int], capacity: int = CAPACITY) -> None:
        self._size_of = size_of
        self._capacity = capacity
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()

    def get(self, chain: str, key: Hashable, ask: Callable[[], T]) -> T:
        """The answer to a question about one chain's rows; its value is shared, and nobody may change it."""
        size, place = self._size_of(chain), (chain, key)
        with self._lock:
            known = self._known.get(place)
        if known is not None and known[0] == size:
            return cast("T", known[1])
        answer = ask()
        with self._lock:
            self._known[place] = (size, answer)
            self._known.move_to_end(place)
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return answer
