"""A chain in the hands of a worker: one reader, and one lane for each of its processors.

The reader brings every record to the lanes, in order, and tells them when all that is committed is folded. A lane
does one thing at a time with its processor; what takes long (packaging, say) is done by threads of its own, while
other lanes, and other chains, go on. What a worker does is done by no thread of Faust's.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from processors.base import Settling
from processors.runners.outbox import Sending, collect
from producers.feed import Feed
from schemas.base import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processors.base import Processor, Recorded
    from processors.runners.outbox import Outbox
    from processors.runners.shared import Shared
    from processors.runners.threads import Threads
    from producers.engines.port import LogReader

FRESH_SECONDS = 10.0
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
log = structlog.get_logger(__name__)


class Turn:
    """Work that is done by a pool's threads, never twice at once; asked for while it is done, it is done again."""

    def __init__(self, threads: Threads, work: Callable[[], None]) -> None:
        self._threads = threads
        self._work = work
        self._lock = threading.Lock()
        self._asked = self._busy = False

    def ask(self) -> None:
        """Have it done soon; from any thread."""
        with self._lock:
            if self._busy:
                self._asked = True
                return
            self._busy = True
        self._threads.give(self._do)

    def _do(self) -> None:
        try:
            self._work()
        finally:
            with self._lock:
                again = self._busy = self._asked
                self._asked = False
            if again:
                self._threads.give(self._do)


class Gate:
    """Whether a worker may send for a chain. Shutting it waits until what is being sent is sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = True

    def shut(self) -> None:
        """Let nothing through any more."""
        with self._lock:
            self._open = False

    def reopen(self) -> None:
        """Let everything through again."""
        with self._lock:
            self._open = True

    def send(self, outbox: Outbox, pending: deque[Sending]) -> bool:
        """Send what is pending, if the gate is open; whether it was.

        Raises:
            TensorGuardError, OSError: see :meth:`processors.runners.outbox.Outbox.send`.
        """
        with self._lock:
            if self._open:
                outbox.send(pending)
            return self._open


class Lane:
    """A processor of one chain: its events in order, what follows from them, and how far it is."""

    def __init__(self, processor: Processor, threads: Threads, gate: Gate, outbox: Outbox) -> None:
        self.processor = processor
        self.position = 0
        self._gate = gate
        self._outbox = outbox
        self._busy = threading.Lock()
        self._lock = threading.Lock()
        self._inbox: deque[Recorded] = deque()
        self._reached = 0
        self._level = False
        self._level_at = 0.0
        self._pending: deque[Sending] = deque()
        self._turn = Turn(threads, self._settle)

    def take(self, batch: Sequence[Recorded]) -> None:
        """Fold events, now or as soon as the processor is free; more may follow."""
        heeded = [recorded for recorded in batch if type(recorded.event) in self.processor.events]
        with self._lock:
            self._inbox += heeded
            self._level = self._level and not heeded
        if self._busy.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._busy.release()

    def level(self, reached: int, at: float) -> None:
        """Everything that was committed at a time is brought, up to ``reached``: let the processor act on it."""
        with self._lock:
            self._reached, self._level, self._level_at = reached, True, at
        self._turn.ask()

    def remind(self, at: float) -> None:
        """Nothing was to be read at a time: let the processor look again, and send what could not be sent."""
        with self._lock:
            self._level_at = at
        self._turn.ask()

    @property
    def _knows(self) -> bool:
        """Whether the processor knows all that is committed, or was so a moment ago.

        A process that stood still must read before it acts: others may have gone on for hours.
        """
        return self._level and time.monotonic() - self._level_at < FRESH_SECONDS

    def _settle(self) -> None:
        with self._busy:
            try:
                if self._sent():
                    reached = self._fold()
                    if self._knows:
                        self._act(reached)
            except (TensorGuardError, OSError) as error:
                # The ledger is full or out of reach: nothing is lost, since it is still pending at the next reminder.
                log.warning("runner_delayed", processor=self.processor.name, code=getattr(error, "code", "os_error"))

    def _act(self, reached: int) -> None:
        """Let the processor act on where things stand, until there is nothing left for it to do."""
        intended = collect(self.processor, self.processor.caught_up) if isinstance(self.processor, Settling) else []
        self._pending += intended
        if not self._sent():
            return
        if intended:
            self._turn.ask()
        else:
            self.position = reached

    def _sent(self) -> bool:
        return self._gate.send(self._outbox, self._pending)

    def _fold(self) -> int:
        """Hand over what was brought; how far the chain was read then."""
        while True:
            with self._lock:
                if not self._inbox:
                    return self._reached
                batch, self._inbox = self._inbox, deque()
            for recorded in batch:
                self._pending += collect(self.processor, lambda r=recorded: self.processor.handle(r))  # type: ignore[misc]


class Chain:
    """A chain that a worker was given, until it is dropped; each processor is given with the threads that serve it."""

    def __init__(
        self,
        name: str,
        reader: LogReader,
        processors: Sequence[tuple[Processor, Threads]],
        *,
        reading: Threads,
        shared: Shared,
        outbox: Outbox,
    ) -> None:
        self.name = name
        self._gate = Gate()
        self._lanes = [Lane(processor, threads, self._gate, outbox) for processor, threads in processors]
        heeded = frozenset[type[Event]]().union(*(processor.events for processor, _ in processors))
        self._feed = Feed(reader, chains=lambda chain: chain == name, events=heeded)
        self._common = shared.follow(name)
        self._level = self._dropped = False
        self._failures = 0
        self._again_at = 0.0
        self._turn = Turn(reading, self._read)

    def position_of(self, processor: str) -> int:
        """The first seq that a processor has not done with."""
        return next(lane.position for lane in self._lanes if lane.processor.name == processor)

    def wake(self) -> None:
        """There may be something to read."""
        self._turn.ask()

    def remind(self, size: int, at: float) -> None:
        """There were so many records at a time: read what is missing, or let processors look at the time."""
        if self._level and size <= self._reached:
            for lane in self._lanes:
                lane.remind(at)
        elif at >= self._again_at:
            self.wake()

    def shut(self) -> None:
        """Send nothing from now on. What is known stays, should the chain come back."""
        self._gate.shut()

    def reopen(self) -> None:
        """The chain is this worker's, or still so."""
        self._gate.reopen()
        self.wake()

    def drop(self) -> None:
        """The chain is another worker's: nothing is sent for it from now on, or begun."""
        self._dropped = True
        self._gate.shut()

    @property
    def _reached(self) -> int:
        return self._feed.positions.get(self.name, 0)

    def _read(self) -> None:
        """Bring everything up to the end to the processors, page by page."""
        self._level = False
        try:
            at = self._read_up()
        except (TensorGuardError, OSError) as error:
            log.warning("chain_not_read", chain=self.name, code=getattr(error, "code", "os_error"))
            self._again_at = time.monotonic() + RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
            self._failures += 1
            return
        self._failures = 0
        if not self._dropped:
            self._level = True
            for lane in self._lanes:
                lane.level(self._reached, at)

    def _read_up(self) -> float:
        """Bring everything; when it was found that there is no more. What is common comes last, and so is no older."""
        at = time.monotonic()
        while not self._dropped:
            at = time.monotonic()
            batch = self._feed.poll()
            if not batch:
                break
            self._bring(batch)
        self._bring(self._common())
        return at

    def _bring(self, batch: Sequence[Recorded]) -> None:
        for lane in self._lanes:
            lane.take(batch)
