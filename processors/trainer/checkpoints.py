"""Checkpoints: a run's state as a sealed artifact, read back before anybody hears of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from hashlib import file_digest
from typing import TYPE_CHECKING, Any, cast

from tensorguard.artifact import (
    ArtifactManifest,
    ArtifactSubject,
    CheckpointDamagedError,
    LoraSettings,
    OptimizerSettings,
    artifact_prefix,
    open_artifact,
    read_manifest,
    seal_artifact,
)
from tensorguard.artifact.manifest import MAX_MANIFEST_BYTES, parse_manifest
from tensorguard.artifact.store import MANIFEST, PAYLOAD, SIGNATURE
from tensorguard.crypto.composite import CompositePrivateKey, CompositePublicKey
from tensorguard.crypto.memory import wipe

from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider
from processors.trainer.errors import CheckpointMismatchError
from processors.trainer.tensors import pack, unpack
from producers.secretfiles import read_secret
from schemas.commands import RecordCheckpoint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from processors.blobs.port import BlobStore
    from processors.keys.port import KeyProvider
    from processors.trainer.adapter import Adapter
    from producers.installation import Installation
    from schemas.events import RunCreated

COMPOSITE_SEED_BYTES = 64
_ARTIFACT = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Image:
    """A run's state, copied at one moment: what is said of it, and the tensors as safetensors bytes."""

    subject: ArtifactSubject
    data: bytearray = field(repr=False)
    lease_epoch: int
    operation_id: bytes | None
    name: str | None


class Checkpoints:
    """Saves and loads states of one installation; safe from several threads."""

    def __init__(self, store: BlobStore, keys: KeyProvider, signing_key: CompositePrivateKey) -> None:
        self._store = store
        self._keys = keys
        self._signing_key = signing_key

    @classmethod
    def of(cls, installation: Installation) -> Checkpoints:
        """Those of an installation, with its file stores; what killed writers left in them is swept."""
        seed = read_secret(installation.artifact_signing_key, COMPOSITE_SEED_BYTES)
        blobs = FileBlobStore(installation.blobs_dir)
        blobs.sweep()
        return cls(blobs, FileKeyProvider.of(installation), CompositePrivateKey(seed))

    def save(self, image: Image) -> RecordCheckpoint:
        """Seal and store a state, read it back, and wipe the copy; what to report.

        Raises:
            StorageFullError: no space is left; nothing is kept.
            CheckpointDamagedError: what was read back is not what was written.
        """
        subject = image.subject
        try:
            sealed = seal_artifact(
                subject,
                [image.data],
                store=self._store,
                dek=self._keys.tenant_dek(subject.tenant),
                signing_key=self._signing_key,
            )
            self._read_back(subject, sealed.manifest_digest, sealed.content_hash)
        except Exception:
            self.delete(subject.tenant, bytes.fromhex(subject.artifact_id))
            raise
        finally:
            wipe(image.data)
        return RecordCheckpoint(
            run_id=subject.run_id,
            operation_id=image.operation_id,
            lease_epoch=image.lease_epoch,
            artifact_id=bytes.fromhex(subject.artifact_id),
            name=image.name,
            step=subject.step,
            through_op_seq=subject.through_op_seq,
            adapter_digest=bytes.fromhex(subject.adapter_digest),
            content_hash=sealed.content_hash,
            manifest_digest=sealed.manifest_digest,
            size_bytes=sealed.size_bytes,
            wrapping_key_id=sealed.manifest.key.dek_id,
            includes_optimizer=subject.includes_optimizer,
        )

    def _read_back(self, subject: ArtifactSubject, manifest_digest: bytes, content_hash: bytes) -> None:
        read_manifest(
            self._store,
            tenant=subject.tenant,
            artifact_id=subject.artifact_id,
            trusted=[self._signing_key.public_key],
            manifest_digest=manifest_digest,
        )
        with self._store.open(f"{artifact_prefix(subject.tenant, subject.artifact_id)}/{PAYLOAD}") as payload:
            if file_digest(cast("Any", payload), "sha256").digest() != content_hash:
                raise CheckpointDamagedError("A checkpoint that was just written reads back as something else.")

    def restore(
        self,
        adapter: Adapter,
        run: RunCreated,
        source: Source,
        *,
        through_op_seq: int,
        include_optimizer: bool,
        trusted: Iterable[bytes],
    ) -> None:
        """Make a run's state that of a checkpoint.

        Raises:
            ArtifactError: it is damaged, truncated or sealed by another key; each has its own class.
            CheckpointMismatchError: it is of another model or shape, or lacks the optimizer that was asked for.
        """
        keys = {CompositePublicKey(key) for key in trusted} | {self._signing_key.public_key}
        manifest, plaintext = open_artifact(
            self._store,
            tenant=source.tenant,
            artifact_id=source.artifact_id.hex(),
            dek=self._keys.tenant_dek(source.tenant),
            trusted=keys,
            manifest_digest=source.manifest_digest,
        )
        try:
            _check_fit(manifest, run, include_optimizer=include_optimizer)
            tensors, _ = unpack(plaintext)
            adapter.restore(
                tensors, step=manifest.step, through_op_seq=through_op_seq, include_optimizer=include_optimizer
            )
            del tensors
        finally:
            wipe(plaintext)

    def stored(self) -> tuple[dict[tuple[str, str], list[bytes]], list[tuple[str, bytes]]]:
        """What lies in the store, by tenant and run, whether or not the ledger has heard of it; and what is unfinished.

        Nothing of this is verified: it says what may be an orphan, not what may be loaded.
        """
        found: dict[tuple[str, str], list[bytes]] = {}
        unfinished = []
        names = set(self._store.list())
        for folder in sorted({name.rpartition("/")[0] for name in names}):
            tenant, _, artifact = folder.partition("/")
            if not _ARTIFACT.fullmatch(artifact):
                continue
            if f"{folder}/{MANIFEST}" not in names:
                unfinished.append((tenant, bytes.fromhex(artifact)))
            elif run_id := self._run_of(f"{folder}/{MANIFEST}"):
                found.setdefault((tenant, run_id), []).append(bytes.fromhex(artifact))
        return found, unfinished

    def remove_unfinished(self, artifacts: Iterable[tuple[str, bytes]]) -> None:
        """Remove what was not finished when it was listed, and is not now. Whoever wrote it must be gone by now."""
        for tenant, artifact_id in artifacts:
            if not self._store.exists(f"{artifact_prefix(tenant, artifact_id.hex())}/{MANIFEST}"):
                self.delete(tenant, artifact_id)

    def _run_of(self, name: str) -> str | None:
        with self._store.open(name) as file:
            try:
                return parse_manifest(file.read(MAX_MANIFEST_BYTES)).run_id
            except ValueError:
                return None

    def delete(self, tenant: str, artifact_id: bytes) -> None:
        """Destroy an artifact; the manifest first: it holds the wrapped key, and no half of it looks whole."""
        prefix = artifact_prefix(tenant, artifact_id.hex())
        self._store.destroy(f"{prefix}/{MANIFEST}")
        for name in (SIGNATURE, PAYLOAD):
            self._store.delete(f"{prefix}/{name}")


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint to load: whose, which, and the digest that the ledger has of its manifest."""

    tenant: str
    artifact_id: bytes
    manifest_digest: bytes


def take_image(
    adapter: Adapter,
    run: RunCreated,
    *,
    tenant: str,
    artifact_id: bytes,
    created_at: int,
    lease_epoch: int,
    include_optimizer: bool,
    operation_id: bytes | None = None,
    name: str | None = None,
) -> Image:
    """Copy a run's state as it is now (``created_at`` in microseconds). Accumulated gradients are not in it."""
    metadata = {"format": "tensorguard/checkpoint/v1", "step": str(adapter.step)}
    data = pack(adapter.tensors(include_optimizer=include_optimizer), metadata)
    subject = ArtifactSubject(
        artifact_id=artifact_id.hex(),
        tenant=tenant,
        run_id=run.run_id,
        step=adapter.step,
        through_op_seq=adapter.through_op_seq,
        model=run.model,
        manifest_digest=run.manifest_digest.hex(),
        tokenizer_digest=run.tokenizer_digest.hex(),
        lora=_lora(run),
        optimizer=_optimizer(run),
        includes_optimizer=include_optimizer,
        adapter_digest=adapter.digest().hex(),
        created_at=created_at,
    )
    return Image(subject, data, lease_epoch, operation_id, name)


def _lora(run: RunCreated) -> LoraSettings | None:
    spec = run.lora
    if spec is None:
        return None
    return LoraSettings(
        rank=spec.rank,
        alpha=spec.alpha,
        dropout=spec.dropout,
        target_modules=list(spec.target_modules),
        bias=spec.bias,
        use_rslora=spec.use_rslora,
        use_dora=spec.use_dora,
    )


def _optimizer(run: RunCreated) -> OptimizerSettings:
    spec = run.optimizer
    return OptimizerSettings(
        name=spec.name,
        learning_rate=spec.learning_rate,
        weight_decay=spec.weight_decay,
        beta1=spec.beta1,
        beta2=spec.beta2,
        eps=spec.eps,
        momentum=spec.momentum,
        max_grad_norm=spec.max_grad_norm,
    )


def _check_fit(manifest: ArtifactManifest, run: RunCreated, *, include_optimizer: bool) -> None:
    if manifest.manifest_digest != run.manifest_digest.hex():
        raise CheckpointMismatchError("The checkpoint is of another base model.")
    if _shape(manifest.lora) != _shape(_lora(run)):
        raise CheckpointMismatchError("The checkpoint has other LoRA settings.")
    if include_optimizer and not manifest.includes_optimizer:
        raise CheckpointMismatchError("The checkpoint was saved without its optimizer.")
    if include_optimizer and manifest.optimizer.name != run.optimizer.name:
        raise CheckpointMismatchError("The checkpoint holds another optimizer's state.")


def _shape(lora: LoraSettings | None) -> object:
    """What makes two adapters exchangeable; dropout only matters while training."""
    return lora and lora.model_dump(exclude={"dropout", "target_modules"}) | {"targets": {*lora.target_modules}}
