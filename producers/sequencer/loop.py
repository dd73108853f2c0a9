"""The sequencer: drains the intake in micro-batches, each committed as one."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from producers.deciders.registry import PLATFORM
from producers.engines.errors import EngineError, FencedError, StorageFullError
from producers.errors import ForeignChainError
from producers.home import read_home
from producers.logs import place_of
from producers.sequencer import snapshot
from producers.sequencer.batch import Batch, Founder
from producers.sequencer.fold import ChainFold
from producers.sequencer.memory import DecisionMemory
from producers.sequencer.observing import Round
from producers.sequencer.place import Place
from producers.sequencer.recover import recover
from producers.sequencer.seal import Writer
from producers.sequencer.timekeeper import Timekeeper

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from producers.clock import Clock
    from producers.engines.port import LogEngine, Reply
    from producers.errors import LedgerMovedError
    from producers.installation import Installation
    from producers.sequencer.observing import Observer

_log = structlog.get_logger("sequencer")


@dataclass(frozen=True, slots=True)
class Limits:
    """Entries per micro-batch; records between snapshots; seconds of waiting when idle and when storage is full.

    A chain of more streams than ``snapshot_every`` has as many records between its snapshots as it has streams: what a
    snapshot costs grows with them, so what snapshots cost per record does not.
    """

    batch: int = 1024
    snapshot_every: int = 10_000
    idle_seconds: float = 0.5
    full_seconds: float = 1.0


class Sequencer:
    """The one writer. Whoever drives it holds the ``SequencerLock``; the epoch fences it if that ever fails.

    Only what is committed enters its folds, so a commit that fails changes nothing and the entries are decided again.

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
        self._snapshots: dict[str, int] = {}
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
        owned = [chain for chain in self._engine.chains() if self._owns(chain)]
        recovered = {chain: recover(self._engine, chain, memory.noting(chain)) for chain in owned}
        self._memory = memory
        self._folds = {chain: fold for chain, (fold, _) in recovered.items()}
        self._snapshots = {chain: covered for chain, (_, covered) in recovered.items()}
        self._ended = self._place.check(self._with_platform())
        writer = Writer(self._name, self._above_all(epoch))
        newest = max((fold.head.recorded_at for fold in self._folds.values()), default=0)
        self._time.start(newest, accept=self._accept_clock)
        self._writer = writer
        _log.info("writer_opened", epoch=writer.epoch, chains=len(self._folds))
        return writer

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
        entries = self._engine.intake(self._engine.intake_position(), self._limits.batch)
        if not entries:
            return 0
        began = time.time_ns()
        batch = self._batch(writer)
        for entry in entries:
            batch.take(entry)
        self._commit(batch, began)
        return len(entries)

    def decide(self, commands: Sequence[bytes]) -> Sequence[Reply]:
        """Decide signed commands past the intake, in one commit; whoever moves the ledger does so.

        Raises:
            RejectedError, RefusedError: one of them cannot be accepted; nothing was written.
            FencedError: a newer writer has the ledger.
            StorageFullError: nothing was written.
            ClockError: the clock has leapt ahead.
        """
        writer = self._writer or self.open()
        began = time.time_ns()
        batch = self._batch(writer)
        for command in commands:
            batch.settle(command)
        replies = tuple(batch.replies.values())
        for reply in replies:
            reply.raise_for_outcome()
        self._commit(batch, began)
        self._ended = self._place.check(self._with_platform())
        return replies

    def _batch(self, writer: Writer) -> Batch:
        return Batch(writer, self._founder, self._fold_of, self._decision_on, self._time.now)

    def _commit(self, batch: Batch, began: int) -> None:
        self._engine.commit(batch.commit())
        self._adopt(batch)
        self._memory.add(batch.replies.values())
        self._tell(batch, began)
        self._take_snapshots(lambda fold: max(self._limits.snapshot_every, len(fold.streams)))

    def run(self, stop: threading.Event) -> None:
        """Decide until told to stop; then leave snapshots behind.

        Raises:
            FencedError: a newer writer has the ledger: end the process.
            ClockError: the clock has leapt ahead.
        """
        self.reopen()
        while not stop.is_set():
            try:
                if self.step() == 0 and not self._engine.wait_intake(
                    self._engine.intake_position(), self._limits.idle_seconds
                ):
                    self._check_role()
            except StorageFullError as error:
                _log.error("storage_full", next_step=error.next_step)
                stop.wait(self._limits.full_seconds)
        self.close()

    def _check_role(self) -> None:
        """Whether the role is still this writer's: one that is never asked to write would not notice.

        Raises:
            FencedError: it is not.
        """
        try:
            newest = self._engine.epoch()
        except EngineError:  # who cannot be reached cannot say so, and nothing is asked for meanwhile
            return
        if newest > self.epoch:
            raise FencedError(f"The writer of epoch {self.epoch} is fenced by that of epoch {newest}.")

    def close(self) -> None:
        """Leave snapshots behind, so that the next start folds little."""
        self._take_snapshots(lambda _: 1)

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

    def _adopt(self, batch: Batch) -> None:
        for chain, draft in batch.drafts.items():
            if draft.head.size:
                self._folds.setdefault(chain, ChainFold(chain)).adopt(draft)

    def _tell(self, batch: Batch, began: int) -> None:
        told = Round(batch.decided, began, time.time_ns())
        for observer in self._observers:
            try:
                observer.committed(told)
            except Exception as error:  # noqa: BLE001 -- what only watches must not stop the writer
                _log.error("observer_failed", observer=type(observer).__name__, **place_of(error))

    def _take_snapshots(self, every: Callable[[ChainFold], int]) -> None:
        try:
            for chain, fold in self._folds.items():
                if fold.head.size - self._snapshots.get(chain, 0) >= every(fold):
                    self._engine.save_snapshot(snapshot.take(fold))
                    self._snapshots[chain] = fold.head.size
        except StorageFullError:
            # A snapshot only saves time at the next start.
            _log.warning("snapshot_skipped", reason="storage_full")
