"""What can be gone through as often as one likes, each time from its beginning, one item in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Stream(Generic[T]):
    """Items that ``start`` yields anew at each call; ``length`` is how many, where that can be known beforehand."""

    start: Callable[[], Iterator[T]]
    length: int | None = None

    def __iter__(self) -> Iterator[T]:
        return self.start()

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError("How many items this stream has is known only when it has been gone through.")
        return self.length

    def skip(self, count: int) -> Stream[T]:
        """All but the first ``count`` items: what is left of an epoch that was broken off."""
        length = None if self.length is None else max(0, self.length - count)
        return Stream(lambda: islice(self.start(), count, None), length)

    def take(self, count: int) -> Stream[T]:
        """The first ``count`` items at most."""
        length = None if self.length is None else min(self.length, count)
        return Stream(lambda: islice(self.start(), count), length)
