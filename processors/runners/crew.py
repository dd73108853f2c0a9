"""All chains that a worker has now. It knows nothing of who gives them to it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from processors.runners.chains import Chain
from processors.runners.outbox import Outbox
from processors.runners.shared import Shared
from processors.runners.threads import Threads
from producers.feed import AHEAD
from producers.positions import PositionFile
from schemas import events as e

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from processors.base import Processor
    from producers.engines.port import LogEngine
    from producers.installation import Installation
    from schemas.base import Event

READING_THREADS = 2
SHARED: frozenset[type[Event]] = frozenset({e.ModelRegistered, e.ModelRemoved})
"""What the platform's chain tells the processors of every other one."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of processor: one is made for each chain, and ``threads`` do the work of all of them."""

    name: str
    role: str
    make: Callable[[str], Processor]
    threads: int = 1


class Crew:
    """The chains of a worker, with a processor of each kind for each of them; any thread may use it."""

    def __init__(self, installation: Installation, engine: LogEngine, kinds: Sequence[Kind]) -> None:
        self._engine = engine
        self._kinds = [(kind, Threads(kind.name, kind.threads)) for kind in kinds]
        self._reading = Threads("reading", READING_THREADS)
        self._outbox = Outbox(installation, engine, {kind.role for kind in kinds})
        self._shared = Shared(engine, SHARED)
        self._lock = threading.Lock()
        self._chains: dict[str, Chain] = {}
        self._closed = False
        self._notes = [PositionFile(installation.data_dir, [kind.name], installation.clock) for kind in kinds]

    def shut(self) -> None:
        """Send nothing for any chain from now on; returns when nothing is being sent any more."""
        for chain in self._now():
            chain.shut()

    def assign(self, names: Collection[str]) -> None:
        """Work on these chains, and on no others: what was known of those is dropped."""
        with self._lock:
            names = () if self._closed else names
            gone = [self._chains.pop(name) for name in self._chains.keys() - set(names)]
            kept = list(self._chains.values())
            fresh = [self._made(name) for name in sorted(set(names) - self._chains.keys())]
            self._chains |= {chain.name: chain for chain in fresh}
        for chain in gone:
            chain.drop()
        for chain in kept:
            chain.reopen()
        for first in range(0, len(fresh), AHEAD):
            self._begin(fresh[first : first + AHEAD])
        log.info("chains_assigned", chains=len(kept) + len(fresh), new=len(fresh), gone=len(gone))

    def _begin(self, chains: Sequence[Chain]) -> None:
        """Have chains read from their first records, which are asked for together."""
        self._reading.give(partial(self._engine.prefetch, {chain.name: 0 for chain in chains}))
        for chain in chains:
            chain.wake()

    def wake(self, name: str) -> None:
        """A chain has something new."""
        chain = self._chains.get(name)
        if chain is not None:
            chain.wake()

    def remind(self) -> None:
        """Time has passed: look whether anything was missed, let processors act on the time, say how far they are.

        Raises:
            TensorGuardError, OSError: the ledger is out of reach.
        """
        chains, at = self._now(), time.monotonic()
        sizes = self._engine.sizes()
        for chain in chains:
            chain.remind(sizes.get(chain.name, 0), at)
        for note, (kind, _) in zip(self._notes, self._kinds, strict=True):
            note.note({chain.name: chain.position_of(kind.name) for chain in chains}, partial=True)

    def close(self) -> None:
        """Work on nothing any more, whatever is assigned."""
        self._closed = True
        self.assign(())
        for note in self._notes:
            note.close()

    def _made(self, name: str) -> Chain:
        processors = [(kind.make(name), threads) for kind, threads in self._kinds]
        return Chain(name, self._engine, processors, reading=self._reading, shared=self._shared, outbox=self._outbox)

    def _now(self) -> list[Chain]:
        with self._lock:
            return list(self._chains.values())
