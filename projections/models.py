"""The tables of the read models. Each row belongs to one chain; nothing here is derived across chains.

Ids and digests are lower-case hex, times are microseconds since the epoch, ``seq`` is a position on the row's chain.
Everything follows from records alone, so that a rebuild gives the identical database.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Index, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

VIEWS_VERSION = 6
"""Raise it with every change of a table or of what a handler writes: views of another version are rebuilt at start."""

_PENDING = text("status = 'pending'")
Key = String(128)
Name = String(255)


class Base(DeclarativeBase):
    """Column types that SQLite and PostgreSQL both have."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        str: Text,
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[dict[str, Any]]: JSON,
    }


class About(Base):
    """The version of the code that folded these views."""

    __tablename__ = "about"

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Watermark(Base):
    """How far a chain is folded: records 0 to size - 1, the last of which has this leaf hash."""

    __tablename__ = "watermarks"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    size: Mapped[int]
    last_leaf_hash: Mapped[str]


class ApiKey(Base):
    """An API key, known by its keyed hash."""

    __tablename__ = "api_keys"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    key_id: Mapped[str] = mapped_column(Key, primary_key=True, index=True)
    secret_hash: Mapped[str]
    scopes: Mapped[list[str]]
    issued_at: Mapped[int]
    revoked_at: Mapped[int | None]


class ProducerKey(Base):
    """A producer's key; a device is one with the role ``device`` and an HPKE key."""

    __tablename__ = "producers"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    key_id: Mapped[str] = mapped_column(Key, primary_key=True)
    public_key: Mapped[str]
    role: Mapped[str] = mapped_column(Key)
    name: Mapped[str]
    hpke_public_key: Mapped[str | None]
    seq: Mapped[int]
    enrolled_at: Mapped[int]
    revoked_at: Mapped[int | None]


class CatalogueModel(Base):
    """A registered model with the digests of its files: a name of the catalogue."""

    __tablename__ = "models"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(Name, primary_key=True)
    architecture: Mapped[str]
    files: Mapped[list[dict[str, Any]]]
    manifest_digest: Mapped[str]
    tokenizer_digest: Mapped[str]
    vocabulary_size: Mapped[int]
    max_positions: Mapped[int]
    parameters: Mapped[int]
    dtype: Mapped[str] = mapped_column(Key)
    source: Mapped[str | None]
    has_chat_template: Mapped[bool]
    seq: Mapped[int]
    registered_at: Mapped[int]


class KnownModel(Base):
    """What a model is like that is or was in the catalogue: runs outlive its name."""

    __tablename__ = "known_models"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    manifest_digest: Mapped[str] = mapped_column(Key, primary_key=True)
    architecture: Mapped[str]
    vocabulary_size: Mapped[int]
    max_positions: Mapped[int]
    has_chat_template: Mapped[bool]


class SigningKey(Base):
    """A public key of the signer (``signer``) or of artifacts (``artifact``); ``public`` holds its parts."""

    __tablename__ = "signing_keys"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(Key)
    public: Mapped[dict[str, Any]]
    published_at: Mapped[int]


class Run(Base):
    """A training run as its records leave it.

    ``durable_op_seq`` is also the number of the interval that the inputs of a sealed run are sealed in now.
    ``last_replay`` says how the newest replay went: its place and time, what it repeated, whether that was identical.
    """

    __tablename__ = "runs"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    run_id: Mapped[str] = mapped_column(Key, primary_key=True)
    model: Mapped[str] = mapped_column(Name)
    manifest_digest: Mapped[str]
    tokenizer_digest: Mapped[str]
    lora: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    optimizer: Mapped[dict[str, Any]] = mapped_column(JSON)
    batch_size: Mapped[int]
    gradient_accumulation_steps: Mapped[int | None]
    max_steps: Mapped[int | None]
    seed: Mapped[int]
    metadata_commitment: Mapped[str | None]
    batch_retention: Mapped[str]
    trainable: Mapped[bool]
    start_artifact_id: Mapped[str | None]
    start_step: Mapped[int | None]
    seq: Mapped[int]
    created_at: Mapped[int]
    closed_at: Mapped[int | None]
    generation: Mapped[int]
    step: Mapped[int]
    durable_step: Mapped[int]
    durable_artifact_id: Mapped[str | None]
    durable_op_seq: Mapped[int]
    last_op_seq: Mapped[int]
    lease_epoch: Mapped[int]
    worker: Mapped[str | None]
    replaying: Mapped[bool]
    replays: Mapped[int]
    last_replay: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    batch_keys_destroyed: Mapped[int]

    __table_args__ = (Index("runs_by_seq", "chain", "seq"),)


class Operation(Base):
    """A future: what was asked of a run and what became of it.

    ``parameters`` are what the submission fixed on the ledger, ``result`` the scalars of the outcome, ``error`` the
    code and figures of a failure. ``seq`` is the submission's position, ``last_seq`` that of the newest record of it.
    """

    __tablename__ = "operations"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    operation_id: Mapped[str] = mapped_column(Key, primary_key=True)
    run_id: Mapped[str] = mapped_column(Key)
    kind: Mapped[str] = mapped_column(Key)
    status: Mapped[str] = mapped_column(Key)
    op_seq: Mapped[int]
    generation: Mapped[int]
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    cancel_requested: Mapped[bool]
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    seq: Mapped[int]
    last_seq: Mapped[int]
    created_at: Mapped[int]
    completed_at: Mapped[int | None]

    __table_args__ = (
        Index("operations_by_run", "chain", "run_id", "op_seq"),
        Index("operations_by_status", "chain", "status"),
        Index("operations_pending", "kind", sqlite_where=_PENDING, postgresql_where=_PENDING),
    )


class Artifact(Base):
    """A durable checkpoint, or one that was: deleted ones keep their row."""

    __tablename__ = "artifacts"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    artifact_id: Mapped[str] = mapped_column(Key, primary_key=True)
    run_id: Mapped[str] = mapped_column(Key)
    operation_id: Mapped[str | None] = mapped_column(Key)
    name: Mapped[str | None]
    step: Mapped[int]
    through_op_seq: Mapped[int]
    adapter_digest: Mapped[str]
    content_hash: Mapped[str]
    manifest_digest: Mapped[str]
    size_bytes: Mapped[int]
    wrapping_key_id: Mapped[str]
    includes_optimizer: Mapped[bool]
    seq: Mapped[int]
    created_at: Mapped[int]
    deletion_requested_at: Mapped[int | None]
    deleted_at: Mapped[int | None]

    __table_args__ = (Index("artifacts_by_seq", "chain", "seq"),)


class Export(Base):
    """A checkpoint's weights in the clear: asked for, there or failed."""

    __tablename__ = "exports"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    export_id: Mapped[str] = mapped_column(Key, primary_key=True)
    run_id: Mapped[str] = mapped_column(Key)
    artifact_id: Mapped[str] = mapped_column(Key)
    manifest_digest: Mapped[str]
    format: Mapped[str]
    status: Mapped[str] = mapped_column(Key)
    error_code: Mapped[str | None]
    files_digest: Mapped[str | None]
    size_bytes: Mapped[int | None]
    seq: Mapped[int]
    finished_seq: Mapped[int | None]
    requested_at: Mapped[int]
    finished_at: Mapped[int | None]

    __table_args__ = (Index("exports_by_seq", "chain", "seq"),)


class Package(Base):
    """A secure model package: asked for, signed or failed."""

    __tablename__ = "packages"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    package_id: Mapped[str] = mapped_column(Key, primary_key=True)
    run_id: Mapped[str] = mapped_column(Key)
    artifact_id: Mapped[str] = mapped_column(Key)
    manifest_digest: Mapped[str]
    recipients: Mapped[list[str]]
    release_counter: Mapped[int]
    expires_at: Mapped[int | None]
    status: Mapped[str] = mapped_column(Key)
    package_digest: Mapped[str | None]
    file_digest: Mapped[str | None]
    size_bytes: Mapped[int | None]
    signing_key_id: Mapped[str | None]
    error_code: Mapped[str | None]
    seq: Mapped[int]
    finished_seq: Mapped[int | None]
    requested_at: Mapped[int]
    finished_at: Mapped[int | None]

    __table_args__ = (Index("packages_by_seq", "chain", "seq"),)


class PackageOpening(Base):
    """A device's report that it opened a package."""

    __tablename__ = "package_openings"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    package_id: Mapped[str] = mapped_column(Key, index=True)
    package_digest: Mapped[str]
    device: Mapped[str] = mapped_column(Key)
    opened_at: Mapped[int]


class AuditEntry(Base):
    """One record of a chain, findable by event and stream."""

    __tablename__ = "audit"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event: Mapped[str] = mapped_column(Key)
    event_id: Mapped[str] = mapped_column(Key)
    stream: Mapped[str] = mapped_column(Name)
    stream_seq: Mapped[int]
    recorded_at: Mapped[int]
    cause: Mapped[str | None] = mapped_column(Key)
    leaf_hash: Mapped[str]
    data: Mapped[dict[str, Any]]

    __table_args__ = (
        Index("audit_by_event", "chain", "event", "seq"),
        Index("audit_by_stream", "chain", "stream", "seq"),
    )


class Rejection(Base):
    """A well-formed, authenticated command that was refused."""

    __tablename__ = "rejections"

    chain: Mapped[str] = mapped_column(Key, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    command_id: Mapped[str] = mapped_column(Key, index=True)
    command_type: Mapped[str] = mapped_column(Key)
    stream: Mapped[str] = mapped_column(Name)
    code: Mapped[str] = mapped_column(Key)
    detail: Mapped[str]
    recorded_at: Mapped[int]
