"""What one handle knows of a ledger on Kafka; every change wakes those who wait."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from contextlib import contextmanager
from itertools import chain as chained
from typing import TYPE_CHECKING, NamedTuple

from producers.engines.kafka.messages import Decided, Head, Stored, Tip, WriterState
from producers.engines.port import REFUSED, Quarantined, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from producers.engines.errors import EngineError


_AT_ONCE_SECONDS = 60.0
MOST_REPLIES = 1 << 17
"""Of more than so many the oldest are let go: who asks for one has it told again by sending its command again."""


class _Kept(NamedTuple):
    """A reply, and when it was told last, in seconds since the epoch."""

    reply: Reply
    at: float


class State:
    """Sizes, replies, checkpoints, epochs and dead letters, each never older than what was applied before.

    Whoever changes or reads it holds ``changed``. All values only grow or are replaced by newer ones, so it may be
    told the same thing twice, by its own commit and by the topic.
    """

    def __init__(self, reply_seconds: float) -> None:
        lock = threading.RLock()
        self.changed = threading.Condition(lock)
        self.sizes: dict[str, int] = {}
        self.lasts: dict[str, bytes] = {}
        self.partitions: dict[str, int] = {}
        self.heads: dict[str, Head] = {}
        self.checkpoints: dict[str, bytes] = {}
        self.snapshots: dict[str, Stored] = {}
        self.dead_letters: dict[int, tuple[Quarantined, bytes]] = {}
        self.failure: EngineError | None = None
        self.closed = False
        self._epochs: defaultdict[int, int] = defaultdict(int)
        self._positions: defaultdict[int, int] = defaultdict(int)
        self._replies: dict[bytes, dict[str, _Kept]] = {}
        self._ages: deque[tuple[float, bytes]] = deque()
        self._reply_seconds = reply_seconds
        self._removed: set[int] = set()
        self._written: dict[int, WriterState] = {}
        self._lock = lock
        self._awaited: defaultdict[bytes, list[threading.Condition]] = defaultdict(list)

    def epoch(self, partition: int) -> int:
        """The newest epoch of a partition."""
        return self._epochs[partition]

    def position(self, partition: int) -> int:
        """The position of a partition up to which everything is decided."""
        return self._positions[partition]

    def reply(self, command_id: bytes, chain: str | None) -> Reply | None:
        """The decision on a command: a refusal only where nothing better is known."""
        found = self._replies.get(command_id, {})
        kept = [each.reply for each in found.values() if chain in (None, each.reply.chain)]
        return min(kept, key=lambda reply: reply.outcome == REFUSED, default=None)

    def decided(self, partition: int, decided: Decided, at: float | None = None) -> None:
        """Apply (a part of) a commit; ``at`` is when it was made, in seconds since the epoch."""
        self._epochs[partition] = max(self._epochs[partition], decided.epoch)
        self._positions[partition] = max(self._positions[partition], decided.position or 0)
        for chain, tip in decided.grown.items():
            self._grow(partition, chain, tip)
        for reply in decided.replies:
            self._keep(reply, time.time() if at is None else at)
        self._forget(time.time() - self._reply_seconds)

    def writer(self, partition: int, state: WriterState) -> None:
        """Apply where the writer of a partition stands."""
        self._epochs[partition] = max(self._epochs[partition], state.epoch)
        self._positions[partition] = max(self._positions[partition], state.position)

    def wrote(self, partition: int, state: WriterState) -> None:
        """Note how far this handle's own commits have come: each was applied when it was made."""
        self._written[partition] = state

    def has_written(self, partition: int, state: WriterState) -> bool:
        """Whether a commit is one of this handle's own."""
        own = self._written.get(partition)
        return own is not None and own.epoch == state.epoch and state.position <= own.position

    def head(self, partition: int, chain: str, head: Head) -> None:
        """Apply where a chain stands."""
        self._grow(partition, chain, Tip(head.size, head.last))
        if chain not in self.heads or head.size >= self.heads[chain].size:
            self.heads[chain] = head

    def stored(self, chain: str, stored: Stored) -> None:
        """Apply where the newest snapshot of a chain lies."""
        if chain not in self.snapshots or stored.size >= self.snapshots[chain].size:
            self.snapshots[chain] = stored

    def set_aside(self, letter: Quarantined, data: bytes) -> None:
        """Apply a new dead letter."""
        if letter.position not in self._removed:
            self.dead_letters[letter.position] = (letter, data)

    def removed(self, position: int) -> None:
        """Apply that a dead letter is there no more."""
        self._removed.add(position)
        self.dead_letters.pop(position, None)

    def pause(self, seconds: float) -> None:
        """Let seconds pass, fewer if the handle is closed."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed, seconds)

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Block until ``ready`` holds or seconds passed or the handle is closed; whether it holds.

        Raises:
            EngineError: nothing will ever be heard any more.
        """
        with self.changed:
            self.changed.wait_for(lambda: ready() or self.closed or self.failure is not None, timeout)
            if self.failure is not None:
                raise self.failure
            return ready()

    def wait_reply(self, command_id: bytes, chain: str | None, timeout: float) -> Reply | None:
        """The decision on a command, waiting for it at most so many seconds: its waiters alone are woken by it.

        Raises:
            EngineError: nothing will ever be heard any more.
        """

        def ready() -> bool:
            return self.reply(command_id, chain) is not None or self.closed or self.failure is not None

        with self.changed:
            if not ready():
                with self._bell(command_id) as bell:
                    bell.wait_for(ready, timeout)
            if self.failure is not None:
                raise self.failure
            return self.reply(command_id, chain)

    @contextmanager
    def _bell(self, command_id: bytes) -> Iterator[threading.Condition]:
        bell = threading.Condition(self._lock)
        self._awaited[command_id].append(bell)
        try:
            yield bell
        finally:
            self._awaited[command_id].remove(bell)
            if not self._awaited[command_id]:
                del self._awaited[command_id]

    def fail(self, failure: EngineError) -> None:
        """Nothing will ever be heard any more: whoever waits is told why."""
        self.failure = failure
        self.wake()

    def wake(self) -> None:
        """Wake whoever waits for anything, to look again."""
        self.changed.notify_all()
        for bell in chained.from_iterable(self._awaited.values()):
            bell.notify_all()

    def _grow(self, partition: int, chain: str, tip: Tip) -> None:
        known = self.sizes.get(chain, 0)
        self.partitions[chain] = partition
        self.sizes[chain] = max(known, tip.size)
        if tip.size > known or (tip.size == known and tip.last):
            self.lasts[chain] = tip.last

    def _keep(self, reply: Reply, at: float) -> None:
        """A refusal names an id that nobody proved to own: it never replaces a decision, and gives way to one.

        A decision that is told again is as good as new; what its own commit and the topic say at once is told once.
        """
        of_id = self._replies.setdefault(reply.command_id, {})
        earlier = of_id.get(reply.chain)
        stands = earlier is not None and earlier.reply.outcome != REFUSED
        if earlier is not None and stands and at < earlier.at + _AT_ONCE_SECONDS:
            return
        of_id[reply.chain] = _Kept(earlier.reply if earlier is not None and stands else reply, at)
        self._ages.append((at, reply.command_id))
        for bell in self._awaited.get(reply.command_id, ()):
            bell.notify_all()

    def _forget(self, before: float) -> None:
        while self._ages and (self._ages[0][0] < before or len(self._ages) > MOST_REPLIES):
            at, command_id = self._ages.popleft()
            left = {chain: kept for chain, kept in self._replies.pop(command_id, {}).items() if kept.at > at}
            if left:
                self._replies[command_id] = left
