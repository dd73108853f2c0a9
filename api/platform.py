"""Everything a server consists of, wired in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from api.auth import Gatekeeper
from api.batches import BatchLimits
from api.futures import Futures
from api.inputs import Inputs
from api.observability.metrics import Metrics
from api.observability.standing import Standing
from api.observability.trainers import Trainers
from api.paging import Cursors
from api.quotas import QuotaLimits, Quotas
from api.submission import Submission
from api.vault import Vault
from api.waiting import Waiters
from processors.batches.inputs import BlobInputStore
from processors.batches.results import BlobResultStore
from processors.blobs.file import FileBlobStore
from processors.exchange.hub import Hub
from processors.exporter.store import ExportStore
from processors.keys.file import FileKeyProvider
from processors.retention import Retention
from processors.runners.per_chain import PerChain
from producers.installation import Installation
from producers.sequencer.observing import DecisionLog, DecisionSpans
from producers.submitter import Submitter
from producers.telemetry.traces import Tracing
from projections.database import open_database, sqlite_url
from projections.projector import Projector
from projections.queries import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy import Engine

    from processors.batches.port import InputStore, ResultStore
    from processors.exchange.port import Exchange
    from producers.engines.port import LogEngine
    from producers.sequencer.observing import Observer
    from producers.settings import Settings


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What one request may bring: bytes of body, and rows and tokens of a batch."""

    body_bytes: int = 32 << 20
    batch_rows: int = 1024
    batch_tokens: int = 1 << 20

    @classmethod
    def of(cls, settings: Settings) -> DoorLimits:
        """The limits that an operator has set."""
        return cls(settings.max_body_bytes, settings.max_batch_rows, settings.max_batch_tokens)

    def of_batch(self, vocabulary: int, positions: int) -> BatchLimits:
        """The limits of a batch for a model."""
        return BatchLimits(vocabulary, positions, self.batch_rows, self.batch_tokens)


@dataclass(frozen=True)
class Platform:
    """The parts that the doors use. ``checks`` say, by name, which parts can do their work."""

    installation: Installation
    engine: LogEngine
    submitter: Submitter
    database: Engine
    projector: Projector
    views: Views
    exchange: Exchange
    inputs: InputStore
    results: ResultStore
    vault: Vault
    submission: Submission
    futures: Futures
    exports: ExportStore
    gatekeeper: Gatekeeper
    waiters: Waiters
    cursors: Cursors
    metrics: Metrics
    tracing: Tracing
    limits: DoorLimits = field(default_factory=DoorLimits)
    checks: dict[str, Callable[[], bool]] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        exchange: Exchange | None = None,
        limits: DoorLimits | None = None,
        quota_limits: QuotaLimits | None = None,
        tracing: Tracing | None = None,
        open_views: Callable[[LogEngine], Engine] | None = None,
    ) -> Platform:
        """The platform on a data directory. No thread runs yet: a sequencer decides and a projector folds elsewhere.

        ``open_views`` gives the database of the read models, if it is not the data directory's own.

        Raises:
            TensorGuardError: the data directory, its keys, its ledger or its views cannot be used.
        """
        installation = Installation.open(data_dir)
        engine = installation.engine()
        submitter = Submitter(installation, engine)
        database = open_views(engine) if open_views else open_database(sqlite_url(installation.views_path))
        projector = Projector(engine, database)
        views = Views(database, projector.size)
        caught_up = views.catching_up(projector.catch_up_with)
        exchange, metrics, tracing = exchange or Hub(), Metrics(), tracing or Tracing()
        metrics.watch(Standing(engine, projector, views, installation.data_dir))
        metrics.watch(Trainers(exchange))
        keys = FileKeyProvider.of(installation)
        keys.protect()
        blobs = FileBlobStore(installation.blobs_dir)
        vault, inputs = Vault(keys, blobs), BlobInputStore(blobs, keys)
        results = BlobResultStore(blobs, keys, installation.clock, installation.settings.result_ttl_seconds)
        quotas = Quotas(views, quota_limits or QuotaLimits.of(installation.settings))
        waiting = Inputs(views, exchange, inputs)
        submission = Submission(installation, engine, submitter, projector, views, waiting, vault, quotas, tracing)
        platform = cls(
            installation=installation,
            engine=engine,
            submitter=submitter,
            database=database,
            projector=projector,
            views=caught_up,
            exchange=exchange,
            inputs=inputs,
            results=results,
            vault=vault,
            submission=submission,
            futures=Futures(caught_up, exchange, results, vault, submission.salt_of),
            exports=ExportStore.of(installation),
            gatekeeper=Gatekeeper(views, projector, installation.api_key_pepper()),
            waiters=Waiters(),
            cursors=Cursors.of(installation),
            metrics=metrics,
            tracing=tracing,
            limits=limits or DoorLimits.of(installation.settings),
        )
        platform.checks["projector"] = platform.projector_keeps_up
        return platform

    @property
    def observers(self) -> Sequence[Observer]:
        """Who is told of every decision."""
        spans = (DecisionSpans(self.tracing),) if self.tracing.on else ()
        every = self.installation.settings.log_level == "debug"
        return (self.metrics, DecisionLog(every=every), *spans)

    def projector_keeps_up(self) -> bool:
        """Whether the views answer for all that was committed, but for what is in flight."""
        return self.projector.failure() is None and self.projector.wait_for_all(KEEPING_UP_SECONDS)

    def retention(self) -> PerChain:
        """The processor that destroys what lies beside the ledger once nothing can need it: one for each tenant."""
        return PerChain(Retention.name, Retention.role, Retention.events, Retention.maker(self.installation))

    def close(self) -> None:
        """Give back files and handles, and send the last spans."""
        self.tracing.close()
        self.submitter.close()
        self.database.dispose()
        self.installation.close()


KEEPING_UP_SECONDS = 1.0
