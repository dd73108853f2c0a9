"""The two ends of a copy: each a ledger, with a handle that writes for each partition of its intake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producers.moving.errors import TooFewPartitionsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.engines.port import LogEngine


class End:
    """A ledger of so many intake partitions; ``opened`` gives one more handle on it, to write for a partition."""

    def __init__(self, opened: Callable[[int], LogEngine], partitions: int = 1) -> None:
        self.partitions = partitions
        self.engine = opened(0)
        self._opened = opened
        self._writers = {0: self.engine}

    def partition_of(self, chain: str, recorded: int) -> int:
        """Which of its partitions a chain is written by; ``recorded`` is the one that its first record names.

        Raises:
            TooFewPartitionsError: it has none of this number.
        """
        if self.partitions == 1:
            return 0
        if recorded >= self.partitions:
            raise TooFewPartitionsError(f"Chain {chain!r} belongs to partition {recorded} of {self.partitions}.")
        return recorded

    def writer(self, partition: int) -> LogEngine:
        """The handle that writes for a partition."""
        if partition not in self._writers:
            self._writers[partition] = self._opened(partition)
        return self._writers[partition]

    def close(self) -> None:
        """Give all handles back."""
        for engine in self._writers.values():
            engine.close()
