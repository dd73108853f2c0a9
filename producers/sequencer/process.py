"""What the process of one partition's sequencer does, from its lock to its snapshots."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from tensorguard.errors import TensorGuardError, UsageError

from producers.engines.errors import FencedError, LedgerDamagedError
from producers.engines.opening import open_engine
from producers.errors import ClockError, LedgerCorruptError, LedgerMovedError
from producers.installation import Installation
from producers.sequencer.lock import SequencerLock
from producers.sequencer.loop import Sequencer
from producers.sequencer.metrics import DecisionMetrics
from producers.sequencer.observing import DecisionLog, DecisionSpans
from producers.sequencer.standby import Fencings, stand_by
from producers.settings.about import SEQUENCER
from producers.telemetry.traces import Tracing

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from producers.engines.port import LogEngine
    from producers.settings import Settings

GIVEN_UP = 3
"""The exit status that says: starting it again changes nothing, somebody has to look."""
LOCK_SECONDS = 15.0
_LASTING = (LedgerMovedError, LedgerCorruptError, LedgerDamagedError, ClockError)
_log = structlog.get_logger("sequencer")


def decide_partition(data_dir: Path, partition: int, stop: threading.Event) -> None:
    """Decide what comes into one partition of the intake until told to stop, then leave snapshots behind.

    Raises:
        UsageError: the ledger is in a file, or has no such partition.
        WriterActiveError: the partition is decided by another process on this data directory, or all of it is.
        FencedError: a rival has taken the role.
        CommitLostError, CommitUnknownError: a transaction did not come to its end; the next start reads back which.
        TensorGuardError: the ledger cannot be reached, or not be gone on with.
    """
    with ExitStack() as stack:
        installation = stack.enter_context(closing(Installation.open(data_dir)))
        _check(installation.settings, partition)
        lock = stack.enter_context(closing(SequencerLock(data_dir, partition)))
        lock.acquire(LOCK_SECONDS)
        tracing = stack.enter_context(closing(Tracing.to(installation.settings.otlp_endpoint, SEQUENCER)))
        engine = stack.enter_context(closing(open_engine(installation.settings, data_dir, partition=partition)))
        fencings = Fencings(data_dir, partition, installation.clock)
        _let_rivals_decide(fencings, engine, stop)
        sequencer = _sequencer(installation, engine, tracing, partition)
        with _noting(fencings, sequencer, engine):
            sequencer.run(stop)


def exit_status(error: TensorGuardError) -> int:
    """What the process ends with."""
    return GIVEN_UP if isinstance(error, _LASTING) else error.exit_code


def _check(settings: Settings, partition: int) -> None:
    if settings.embedded:
        raise UsageError(
            "A ledger in a file is decided by `tensorguard server` itself.",
            next_step="Leave the sequencer out, or set TG_LOG_URL=kafka://host:port.",
        )
    if not 0 <= partition < settings.intake_partitions:
        last = settings.intake_partitions - 1
        raise UsageError(f"There is no partition {partition} of the intake.", next_step=f"Name one from 0 to {last}.")


def _let_rivals_decide(fencings: Fencings, engine: LogEngine, stop: threading.Event) -> None:
    if not fencings.often():
        return
    _log.error(
        "standing_by",
        detail="Another server has taken this partition twice in a short time, and decides it now.",
        next_step="Stop one of the two. This one takes over when what comes in stays undecided.",
    )
    stand_by(engine, stop, fencings.patience())
    if not stop.is_set():
        _log.warning("taking_over", detail="Commands stay undecided: the other server is gone.")


def _sequencer(installation: Installation, engine: LogEngine, tracing: Tracing, partition: int) -> Sequencer:
    log = DecisionLog(every=installation.settings.log_level == "debug")
    spans = (DecisionSpans(tracing),) if tracing.on else ()
    observers = (DecisionMetrics(CollectorRegistry()), log, *spans)
    several = installation.settings.intake_partitions > 1
    return Sequencer.of(installation, engine, observers=observers, partition=partition if several else None)


@contextmanager
def _noting(fencings: Fencings, sequencer: Sequencer, engine: LogEngine) -> Iterator[None]:
    """Remember a fencing, if it was a rival's: a transaction whose time ran out ends in the same way."""
    try:
        yield
    except FencedError:
        if engine.epoch() > sequencer.epoch:
            fencings.note()
        raise
