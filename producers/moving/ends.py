"""The two ends of a copy: each a ledger, with a handle that writes for each partition of its intake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from producers.moving.errors import TooFewPartitionsError
from producers.sequencer import Sequencer

if TYPE_CHECKING:
    from collections.abc import Callable

    from producers.engines.port import LogEngine
    from producers.installation import Installation
    from producers.sequencer.place import Place


class End:
    """A ledger; ``opened`` gives one more handle on it, to write for a partition of its intake.

    ``partitions`` is how many there are; None where one decides every chain, whatever partition it had elsewhere.
    """

    def __init__(self, opened: Callable[[int], LogEngine], partitions: int | None = None) -> None:
        self._partitions = partitions
        self.partitions = range(partitions or 1)
        self.engine = opened(0)
        self._opened = opened
        self._writers = {0: self.engine}

    def partition_of(self, chain: str, recorded: int) -> int:
        """Which of its partitions a chain is written by; ``recorded`` is the one that its first record names.

        Raises:
            TooFewPartitionsError: it has none of this number.
        """
        if self._partitions is None:
            return 0
        if recorded not in self.partitions:
            raise TooFewPartitionsError(f"Chain {chain!r} is of partition {recorded}; there are {self._partitions}.")
        return recorded

    def sequencer(self, installation: Installation, partition: int, place: Place) -> Sequencer:
        """The sequencer of a partition."""
        own = None if self._partitions is None else partition
        return Sequencer.of(installation, self.writer(partition), place=place, partition=own)

    def writer(self, partition: int) -> LogEngine:
        """The handle that writes for a partition."""
        if partition not in self._writers:
            self._writers[partition] = self._opened(partition)
        return self._writers[partition]

    def close(self) -> None:
        """Give all handles back."""
        for engine in self._writers.values():
            engine.close()
