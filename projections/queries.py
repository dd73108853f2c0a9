"""Questions to the views. Every one names its chain, so that no tenant reads another's rows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine, Select, func, literal_column, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from projections.errors import ViewsUnavailableError
from projections.models import (
    ApiKey,
    Artifact,
    AuditEntry,
    Base,
    CatalogueModel,
    Export,
    KnownModel,
    Operation,
    Package,
    PackageOpening,
    ProducerKey,
    Rejection,
    Run,
    SigningKey,
)
from projections.remembered import Remembered

PLATFORM = "platform"
_PENDING = Operation.status == literal_column("'pending'")
"""Not by a parameter, so that the index of exactly these rows serves."""
T = TypeVar("T")
Row = TypeVar("Row", bound=Base)
Paged = TypeVar("Paged", Run, Artifact, Package, Export)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records of a chain are asked for; None means any."""

    stream: str | None = None
    event: str | None = None


class Views:
    """Answers from one database of views; rows come detached and are never written back. Safe from any thread.

    With ``size_of``, which gives how many records of a chain are folded, answers are kept until their chain grows.
    Every question raises ViewsUnavailableError when the database does not answer.
    """

    def __init__(self, database: Engine, size_of: Callable[[str], int] | None = None) -> None:
        self._database = database
        self._remembered = Remembered(size_of) if size_of else None
        self._catch_up: Callable[[str], bool] = lambda _: False

    def catching_up(self, catch_up: Callable[[str], bool]) -> Views:
        """The same views, which look again for a row that is not there once ``catch_up`` has brought its chain on.

        What another process was told of a moment ago is then found here as well. ``catch_up`` says whether all of it
        is there, be it only since the first look.
        """
        views = copy(self)
        views._catch_up = catch_up  # noqa: SLF001 -- a copy of ourselves
        return views

    def api_keys_named(self, key_id: str) -> Sequence[ApiKey]:
        """Every API key with that id, whatever its chain."""
        return self._all(select(ApiKey).where(ApiKey.key_id == key_id))

    def api_keys(self, chain: str | None = None) -> Sequence[ApiKey]:
        """All API keys, or those of one chain, oldest first."""
        query = select(ApiKey).order_by(ApiKey.issued_at, ApiKey.key_id)
        return self._all(query if chain is None else query.where(ApiKey.chain == chain))

    def producer(self, chain: str, key_id: str) -> ProducerKey | None:
        """An enrolled key."""
        return self._get(ProducerKey, chain, key_id)

    def chains_of_producer(self, key_id: str) -> set[str]:
        """The chains that a key was enrolled on."""
        with self._asking() as session:
            return set(session.scalars(select(ProducerKey.chain).where(ProducerKey.key_id == key_id)))

    def devices(self, chain: str) -> Sequence[ProducerKey]:
        """The devices of a chain, oldest first."""
        query = select(ProducerKey).where(ProducerKey.chain == chain, ProducerKey.role == "device")
        return self._all(query.order_by(ProducerKey.seq))

    def signing_keys(self, kind: str) -> Sequence[SigningKey]:
        """The published keys of the signer (``signer``) or of artifacts (``artifact``), oldest first."""
        query = select(SigningKey).where(SigningKey.chain == PLATFORM, SigningKey.kind == kind)
        return self._all(query.order_by(SigningKey.seq))

    def models(self) -> Sequence[CatalogueModel]:
        """The catalogue, by name."""
        return self._all(select(CatalogueModel).where(CatalogueModel.chain == PLATFORM).order_by(CatalogueModel.name))

    def model(self, name: str) -> CatalogueModel | None:
        """A model of the catalogue."""
        return self._get(CatalogueModel, PLATFORM, name)

    def known_model(self, manifest_digest: str) -> KnownModel | None:
        """What a model is like that is or was in the catalogue."""
        return self._get(KnownModel, PLATFORM, manifest_digest)

    def open_runs_on(self, name: str) -> int:
        """How many runs, of whatever tenant, stand on a catalogue model and are not closed."""
        model = self.model(name)
        if model is None:
            return 0
        query = select(Run).where(Run.manifest_digest == model.manifest_digest, Run.closed_at.is_(None))
        return len(self._all(query))

    def run(self, chain: str, run_id: str) -> Run | None:
        """A run of this chain."""
        return self._get(Run, chain, run_id)

    def runs(self, chain: str, before: int | None, limit: int, *, trainable: bool) -> Sequence[Run]:
        """Runs of a chain that train, or samplers, created before position ``before`` (None: all), newest first."""
        query = select(Run).where(Run.chain == chain, Run.trainable == trainable)
        asked = (Run, before, limit, trainable)
        return self._known(chain, asked, lambda: self._newest(query, Run, before, limit))

    def operation(self, chain: str, operation_id: str) -> Operation | None:
        """An operation of this chain."""
        return self._get(Operation, chain, operation_id)

    def pending_operations(self) -> dict[str, int]:
        """How many operations of all chains have no outcome yet, by kind."""
        query = select(Operation.kind, func.count()).where(_PENDING).group_by(Operation.kind)
        with self._asking() as session:
            return {kind: count for kind, count in session.execute(query)}  # noqa: C416 -- rows are no pairs to dict()

    def pending_ids(self, chain: str | None = None) -> set[str]:
        """The operations of a chain (None: of all) that have no outcome yet."""
        query = select(Operation.operation_id)
        if chain is None:
            query = query.where(_PENDING)
        else:
            query = query.where(Operation.chain == chain, Operation.status == "pending")
        with self._asking() as session:
            return set(session.scalars(query))

    def open_runs(self, chain: str | None = None) -> int:
        """How many runs of a chain (None: of all) are not closed."""
        query = select(func.count()).select_from(Run).where(Run.closed_at.is_(None))
        with self._asking() as session:
            return session.scalar(query if chain is None else query.where(Run.chain == chain)) or 0

    def artifact(self, chain: str, artifact_id: str) -> Artifact | None:
        """A checkpoint of this chain that is not deleted; ``deletion_requested_at`` tells one that is about to be."""
        found = self._get(Artifact, chain, artifact_id)
        return found if found and found.deleted_at is None else None

    def resting_on(self, chain: str, artifact_id: str) -> Sequence[Run]:
        """The open runs that cannot go on without a checkpoint: to resume from it, or to do a load of it."""
        loads = select(Operation.run_id).where(
            Operation.chain == chain,
            Operation.run_id == Run.run_id,
            Operation.op_seq > Run.durable_op_seq,
            Operation.kind == "load_state",
            Operation.status.in_(("pending", "completed")),
            Operation.parameters["artifact_id"].as_string() == artifact_id,
        )
        query = select(Run).where(
            Run.chain == chain,
            Run.closed_at.is_(None),
            or_(Run.durable_artifact_id == artifact_id, loads.exists()),
        )
        return self._all(query.order_by(Run.seq))

    def artifacts(self, chain: str, run_id: str | None, before: int | None, limit: int) -> Sequence[Artifact]:
        """Checkpoints of a chain, or of one of its runs, saved before ``before`` and not deleted, newest first."""
        query = select(Artifact).where(Artifact.chain == chain, Artifact.deleted_at.is_(None))
        if run_id is not None:
            query = query.where(Artifact.run_id == run_id)
        return self._newest(query, Artifact, before, limit)

    def export(self, chain: str, export_id: str) -> Export | None:
        """An export of this chain."""
        return self._get(Export, chain, export_id)

    def exports(self, chain: str, artifact_id: str | None, before: int | None, limit: int) -> Sequence[Export]:
        """Exports of a chain, or of one of its checkpoints, asked for before position ``before``, newest first."""
        query = select(Export).where(Export.chain == chain)
        if artifact_id is not None:
            query = query.where(Export.artifact_id == artifact_id)
        return self._newest(query, Export, before, limit)

    def package(self, chain: str, package_id: str) -> Package | None:
        """A package of this chain."""
        return self._get(Package, chain, package_id)

    def packages(self, chain: str, before: int | None, limit: int) -> Sequence[Package]:
        """Packages of a chain requested before position ``before``, newest first."""
        return self._newest(select(Package).where(Package.chain == chain), Package, before, limit)

    def openings(self, chain: str, package_id: str) -> Sequence[PackageOpening]:
        """The devices' reports about a package, oldest first."""
        query = select(PackageOpening).where(PackageOpening.chain == chain, PackageOpening.package_id == package_id)
        return self._all(query.order_by(PackageOpening.seq))

    def audit(self, chain: str, wanted: AuditFilter, start: int, limit: int) -> Sequence[AuditEntry]:
        """Records of a chain from position ``start`` on, in order."""
        query = select(AuditEntry).where(AuditEntry.chain == chain, AuditEntry.seq >= start)
        if wanted.stream is not None:
            query = query.where(AuditEntry.stream == wanted.stream)
        if wanted.event is not None:
            query = query.where(AuditEntry.event == wanted.event)
        return self._all(query.order_by(AuditEntry.seq).limit(limit))

    def rejection(self, chain: str, seq: int) -> Rejection | None:
        """A refused command."""
        return self._first(select(Rejection).where(Rejection.chain == chain, Rejection.seq == seq))

    def _get(self, table: type[Row], chain: str, key: str) -> Row | None:
        found = self._known(chain, (table, key), lambda: self._fetch(table, chain, key))
        if found is None and self._catch_up(chain):
            return self._known(chain, (table, key), lambda: self._fetch(table, chain, key))
        return found

    def _fetch(self, table: type[Row], chain: str, key: str) -> Row | None:
        with self._asking() as session:
            return session.get(table, (chain, key))

    def _known(self, chain: str, question: Hashable, ask: Callable[[], T]) -> T:
        return self._remembered.get(chain, question, ask) if self._remembered else ask()

    def _first(self, query: Select[Row]) -> Row | None:
        with self._asking() as session:
            return session.scalars(query).first()

    def _all(self, query: Select[Row]) -> Sequence[Row]:
        with self._asking() as session:
            return session.scalars(query).all()

    def _newest(self, query: Select[Paged], table: type[Paged], before: int | None, limit: int) -> Sequence[Paged]:
        if before is not None:
            query = query.where(table.seq < before)
        return self._all(query.order_by(table.seq.desc()).limit(limit))

    @contextmanager
    def _asking(self) -> Iterator[Session]:
        try:
            with Session(self._database, expire_on_commit=False) as session:
                yield session
        except SQLAlchemyError as error:
            raise ViewsUnavailableError("The database of the read models does not answer.") from error
