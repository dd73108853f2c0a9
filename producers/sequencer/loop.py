"""The sequencer: drains the intake in micro-batches, each committed as one."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from producers.deciders.registry import PLATFORM
from producers.engines.errors import EngineError, FencedError, StorageFullError
from producers.errors import ForeignChainError
from producers.feed import AHEAD
from producers.home import read_home
from producers.sequencer.ahead import CommitUnderWay
from producers.sequencer.batch import Batch, Founder
from producers.sequencer.fold import ChainFold
from producers.sequencer.limits import Limits
from producers.sequencer.memory import DecisionMemory
from producers.sequencer.observing import Round, tell
from producers.sequencer.place import Place
from producers.sequencer.recover import recover
from producers.sequencer.seal import Writer
from producers.sequencer.snapshot import Snapshots
from producers.sequencer.timekeeper import Timekeeper

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from producers.clock import Clock
    from producers.engines.port import LogEngine, Reply
    from producers.errors import LedgerMovedError
    from producers.installation import Installation
    from producers.sequencer.observing import Observer

_log = structlog.get_logger("sequencer")
_SLICE = 128
"""So many entries are decided before a look at whether the commit under way has ended."""
_GLANCE_SECONDS = 0.002


class Sequencer:
    """The one writer. Whoever drives it holds the ``SequencerLock``; the epoch fences it if that ever fails.

    Only what is committed enters its folds, so a commit that fails changes nothing and the entries are decided again.
    While it runs, the next micro-batch is decided upon the one that is being written, and falls with it.

    It refuses a ledger that was moved away from its ``place``. For who moves it, :meth:`decide` works there, no more.
    """

    def __init__(
        self,
        engine: LogEngine,
        *,
        clock: Clock,
        writer: str,
        founder: Founder,
        limits: Limits | None = None,
        accept_clock: bool = False,
        observers: Sequence[Observer] = (),
        place: Place | None = None,
        alone: bool = True,
    ) -> None:
        self._engine = engine
        self._time = Timekeeper(clock)
        self._name = writer
        self._founder = founder
        self._limits = limits or Limits()
        self._accept_clock = accept_clock
        self._observers = tuple(observers)
        self._place = place or Place()
        self._alone = alone
        self._ended: LedgerMovedError | None = None
        self._writer: Writer | None = None
        self._folds: dict[str, ChainFold] = {}
        self._snapshots = Snapshots(engine)
        self._memory = DecisionMemory(engine)

    @classmethod
    def of(
        cls,
        installation: Installation,
        engine: LogEngine,
        limits: Limits | None = None,
        observers: Sequence[Observer] = (),
        place: Place | None = None,
        partition: int | None = None,
    ) -> Sequencer:
        """The only sequencer of an installation, or that of one partition of its intake, whose ``engine`` is given."""
        founder = Founder(installation.origin, installation.producer("authority").public_key, partition or 0)
        writer = f"{socket.gethostname()}/{os.getpid()}"
        return cls(
            engine,
            clock=installation.clock,
            writer=writer,
            founder=founder,
            limits=limits,
            accept_clock=installation.settings.accept_clock,
            observers=observers,
            place=place or Place(home=read_home(installation.data_dir)),
            alone=partition is None,
        )

    @property
    def partition(self) -> int:
        """The partition of the intake that it decides."""
        return self._founder.partition

    @property
    def epoch(self) -> int:
        """The epoch in which it writes; 0 before it has the role."""
        return 0 if self._writer is None else self._writer.epoch

    def open(self) -> Writer:
        """Take the writer's role: fence every earlier writer, then read all chains of this intake partition back.

        Raises:
            LedgerMovedError: the ledger was moved away from here.
            LedgerCorruptError: the ledger is not what was written.
            ClockError: the clock is too far ahead of the ledger.
            StorageFullError: there is no space to write the new epoch.
        """
        epoch, memory = self._engine.open_epoch(), DecisionMemory(self._engine)
        sizes = self._engine.sizes()
        owned = sorted(chain for chain in sizes if self._owns(chain))
        recovered = {
            chain: recover(self._engine, chain, memory.noting(chain), sizes[chain]) for chain in self._together(owned)
        }
        self._memory = memory
        self._folds = {chain: fold for chain, (fold, _) in recovered.items()}
        self._snapshots = Snapshots(self._engine, {chain: covered for chain, (_, covered) in recovered.items()})
        self._ended = self._place.check(self._with_platform())
        writer = Writer(self._name, self._above_all(epoch))
        newest = max((fold.head.recorded_at for fold in self._folds.values()), default=0)
        self._time.start(newest, accept=self._accept_clock)
        self._writer = writer
        _log.info("writer_opened", epoch=writer.epoch, chains=len(self._folds))
        return writer

    def _together(self, chains: Sequence[str]) -> Iterator[str]:
        """Chains that are read from their first records on, so many at a time."""
        for at, chain in enumerate(chains):
            if at % AHEAD == 0:
                self._engine.prefetch(dict.fromkeys(chains[at : at + AHEAD], 0))
            yield chain

    def _with_platform(self) -> dict[str, ChainFold]:
        """The chains of this partition and, since it says which ledger this is, the platform's in any case."""
        foreign = [chain for chain in self._engine.chains() if chain == PLATFORM and chain not in self._folds]
        return {**self._folds, **{chain: recover(self._engine, chain)[0] for chain in foreign}}

    def _above_all(self, epoch: int) -> int:
        """An epoch above those on the chains: a ledger that was moved here has counted them elsewhere."""
        newest = max((fold.head.epoch for fold in self._folds.values()), default=0)
        return epoch if epoch > newest else self._engine.open_epoch(newest + 1)

    def reopen(self) -> None:
        """Take the role again after others may have had it: nothing to do if nobody did."""
        if self._writer is None or self._engine.epoch() != self._writer.epoch:
            self.open()

    def step(self) -> int:
        """Decide what waits in the intake, at most one micro-batch; how many entries that were.

        Raises:
            FencedError: a newer writer has the ledger.
            LedgerMovedError: the ledger was moved away from here.
            StorageFullError: nothing was written; the entries stay in the intake.
            ClockError: the clock has leapt ahead; the entries stay in the intake.
        """
        writer = self._writer or self.open()
        if self._ended is not None:
            raise self._ended
        batch = self._batch(writer)
        taken = self._take(batch, self._limits.batch, complete=True)
        if taken:
            self._engine.commit(batch.commit())
            self._committed(batch)
        return taken

    def decide(self, commands: Sequence[bytes]) -> Sequence[Reply]:
        """Decide signed commands past the intake, in one commit; whoever moves the ledger does so.

        Raises:
            RejectedError, RefusedError: one of them cannot be accepted; nothing was written.
            FencedError: a newer writer has the ledger.
            StorageFullError: nothing was written.
            ClockError: the clock has leapt ahead.
        """
        writer = self._writer or self.open()
        batch = self._batch(writer)
        for command in commands:
            batch.settle(command)
        replies = tuple(batch.replies.values())
        for reply in replies:
            reply.raise_for_outcome()
        self._engine.commit(batch.commit())
        self._committed(batch)
        self._ended = self._place.check(self._with_platform())
        return replies

    def run(self, stop: threading.Event) -> None:
        """Decide until told to stop, each micro-batch while the one before is written; then leave snapshots behind.

        Raises:
            FencedError: a newer writer has the ledger: end the process.
            ClockError: the clock has leapt ahead.
        """
        self.reopen()
        with CommitUnderWay(self._engine.commit) as under_way:
            while not stop.is_set():
                try:
                    self._advance(under_way)
                except StorageFullError as error:
                    _log.error("storage_full", next_step=error.next_step)
                    stop.wait(self._limits.full_seconds)
            with suppress(StorageFullError):  # Its entries stay in the intake.
                self._settle(under_way)
        self.close()

    def _advance(self, under_way: CommitUnderWay) -> None:
        """Fill a micro-batch for as long as the one before is being written, then have it written as well.

        If that one fails, what was decided upon it goes with it: its entries are decided again.
        """
        writer = self._writer or self.open()
        if self._ended is not None:
            raise self._ended
        batch = self._batch(writer, under_way.batch)
        try:
            self._fill(batch, under_way)
        finally:
            was_under_way = self._settle(under_way)
        if batch.position is not None:
            batch.build_upon(self._fold_of, self._decision_on)
            under_way.begin(batch)
        elif not was_under_way:
            self._idle()

    def _idle(self) -> None:
        """Wait for a command; while there is none, look whether the role is still this writer's.

        Raises:
            FencedError: it is not: one that is never asked to write would not notice.
        """
        if self._engine.wait_intake(self._engine.intake_position(), self._limits.idle_seconds):
            return
        try:
            newest = self._engine.epoch()
        except EngineError:  # who cannot be reached cannot say so, and nothing is asked for meanwhile
            return
        if newest > self.epoch:
            raise FencedError(f"The writer of epoch {self.epoch} is fenced by that of epoch {newest}.")

    def _fill(self, batch: Batch, under_way: CommitUnderWay) -> None:
        left = self._limits.batch
        while left > 0:
            taken = self._take(batch, min(left, _SLICE), complete=False)
            left -= taken
            if under_way.done(0.0 if taken else _GLANCE_SECONDS):
                return

    def _take(self, batch: Batch, limit: int, *, complete: bool) -> int:
        """Decide so many entries more, at most; how many there were."""
        after = batch.behind if batch.position is None else batch.position
        entries = self._engine.intake(after, limit, complete=complete)
        for entry in entries:
            batch.take(entry)
        return len(entries)

    def _batch(self, writer: Writer, before: Batch | None = None) -> Batch:
        """An empty micro-batch that builds upon what is committed, and upon the one before, if that is under way."""
        if before is None or before.position is None:
            folds, replies, behind = self._fold_of, self._decision_on, self._engine.intake_position()
        else:
            folds, replies, behind = before.fold_after, before.decision_on, before.position
        return Batch(writer, self._founder, folds, replies, self._time.now, behind, time.time_ns())

    def _settle(self, under_way: CommitUnderWay) -> bool:
        """Wait until nothing is being written any more; whether anything was."""
        batch = under_way.settle()
        if batch is not None:
            self._committed(batch)
        return batch is not None

    def _committed(self, batch: Batch) -> None:
        for chain, draft in batch.drafts.items():
            if draft.head.size:
                self._folds.setdefault(chain, ChainFold(chain)).adopt(draft)
        self._memory.add(batch.replies.values())
        tell(self._observers, Round(batch.decided, batch.began, time.time_ns()))
        grown = [self._folds[chain] for chain in batch.drafts if chain in self._folds]
        self._snapshots.take(grown, lambda fold: max(self._limits.snapshot_every, len(fold.streams)))

    def close(self) -> None:
        """Leave snapshots behind, so that the next start folds little."""
        self._snapshots.take(self._folds.values(), lambda _: 1)

    def _owns(self, chain: str) -> bool:
        """Where one decides alone, chains are its own whatever partition they had in a ledger that was moved here."""
        return self._alone or self._engine.partition_of(chain) == self._founder.partition

    def _decision_on(self, command_id: bytes, chain: str) -> Reply | None:
        if self._owns(chain):
            return self._memory.reply(command_id, chain)
        return self._engine.reply(command_id, chain)

    def _fold_of(self, chain: str) -> ChainFold:
        found = self._folds.get(chain)
        if found is None and not self._owns(chain):
            raise ForeignChainError(f"Chain {chain!r} belongs to another partition of the intake.")
        return found or ChainFold(chain)
