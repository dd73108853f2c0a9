"""Making one package: checkpoint in, verified and in memory; package out, whole or not at all."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from tensorguard.artifact import CheckpointDamagedError, open_artifact
from tensorguard.crypto.composite import PRIVATE_BYTES, CompositePrivateKey
from tensorguard.crypto.memory import wipe
from tensorguard.tgsp import tensors
from tensorguard.tgsp.building import PackageSubject, build_package
from tensorguard.tgsp.errors import PackageError
from tensorguard.tgsp.evidence import Evidence
from tensorguard.tgsp.manifest import Compatibility
from tensorguard.tgsp.package import Package
from tensorguard.tgsp.recipients import Device

from processors.blobs.file import FileBlobStore
from processors.blobs.port import BlobNotFoundError
from processors.keys.file import FileKeyProvider
from processors.packager.errors import ModelUnknownError, NothingToPackageError, RecipientUnknownError
from producers.secretfiles import read_secret
from schemas.commands import RecordPackageSigned

if TYPE_CHECKING:
    from pathlib import Path

    from tensorguard.artifact import ArtifactManifest
    from tensorguard.crypto.memory import Data

    from processors.blobs.port import BlobStore
    from processors.keys.port import KeyProvider
    from processors.packager.orders import Desk, Order
    from producers.installation import Installation

ADAPTER = "adapter/"


class Workbench:
    """Keys and stores that packages are made with; ``scratch`` takes ciphertext while a package is put together."""

    def __init__(
        self,
        *,
        checkpoints: BlobStore,
        packages: FileBlobStore,
        scratch: Path,
        keys: KeyProvider,
        signing_key: CompositePrivateKey,
    ) -> None:
        self._checkpoints = checkpoints
        self._packages = packages
        self._scratch = scratch
        self._keys = keys
        self._signing_key = signing_key
        self._public_key = signing_key.public_key

    @classmethod
    def of(cls, installation: Installation) -> Workbench:
        """The workbench on an installation's folders and keys; what killed writers left in them is swept."""
        packages = FileBlobStore(installation.data_dir / "packages")
        packages.sweep()
        return cls(
            checkpoints=FileBlobStore(installation.blobs_dir),
            packages=packages,
            scratch=packages.root,
            keys=FileKeyProvider.of(installation),
            signing_key=CompositePrivateKey(read_secret(installation.artifact_signing_key, PRIVATE_BYTES)),
        )

    def make(self, order: Order, desk: Desk) -> RecordPackageSigned:
        """The report of a finished package; one that was finished before is reported again, never signed anew.

        Raises:
            ArtifactError, PackagingError, BlobError, KeyMalformedError: why there is none.
        """
        name = f"{order.chain}/{order.request.package_id.hex()}.tgsp"
        if not self._is_finished(name, order):
            self._build(name, order, desk)
        return self._report(name, order)

    def _is_finished(self, name: str, order: Order) -> bool:
        try:
            with self._packages.open(name) as file:
                package = Package.verify(file, [self._public_key])
        except (BlobNotFoundError, PackageError):
            return False
        return package.manifest.request_id == order.request.package_id.hex()

    def _report(self, name: str, order: Order) -> RecordPackageSigned:
        with self._packages.open(name) as file:
            package = Package.verify(file, [self._public_key])
            return RecordPackageSigned(
                package_id=order.request.package_id,
                package_digest=package.package_id,
                file_digest=package.container.file_digest(),
                size_bytes=package.container.size,
                signing_key_id=self._public_key.key_id,
            )

    def _build(self, name: str, order: Order, desk: Desk) -> None:
        devices = _devices(order, desk)
        manifest, plaintext = open_artifact(
            self._checkpoints,
            tenant=order.chain,
            artifact_id=order.request.artifact_id.hex(),
            dek=self._keys.tenant_dek(order.chain),
            trusted=[self._public_key],
            manifest_digest=order.request.manifest_digest,
        )
        try:
            subject = _subject(order, manifest, desk)
            pieces = adapter_only(plaintext, bytes.fromhex(manifest.adapter_digest))
            self._scratch.mkdir(parents=True, exist_ok=True)
            with self._packages.put(name) as out, tempfile.TemporaryFile(dir=self._scratch) as scratch:
                build_package(out, scratch, subject, pieces, devices=devices, signing_key=self._signing_key)
        finally:
            wipe(plaintext)


def adapter_only(image: bytearray, digest: bytes) -> list[Data]:
    """The adapter's tensors of a checkpoint as a safetensors file in pieces: a header, then views of the image.

    Raises:
        NothingToPackageError: it holds none.
        CheckpointDamagedError: they are not those that the ledger knows by their digest, or cannot be read.
    """
    try:
        found, _ = tensors.parse(image)
    except PackageError as error:
        raise CheckpointDamagedError("The checkpoint holds no tensors that can be read.") from error
    adapter = {name.removeprefix(ADAPTER): tensor for name, tensor in found.items() if name.startswith(ADAPTER)}
    if not adapter:
        raise NothingToPackageError("The checkpoint holds no adapter.")
    if tensors.adapter_digest(image, adapter) != digest:
        raise CheckpointDamagedError("The checkpoint's adapter is not the one that its manifest names.")
    view = memoryview(image)
    header = tensors.build_header(adapter, {"format": "pt"})
    return [header, *(view[adapter[name].start : adapter[name].end] for name in sorted(adapter))]


def _devices(order: Order, desk: Desk) -> list[Device]:
    missing = [key for key in order.request.recipients if (order.chain, key) not in desk.hpke_keys]
    if missing or not order.request.recipients:
        raise RecipientUnknownError("A recipient is no device of this chain.")
    return [Device(key, desk.hpke_keys[order.chain, key]) for key in dict.fromkeys(order.request.recipients)]


def _subject(order: Order, manifest: ArtifactManifest, desk: Desk) -> PackageSubject:
    architecture = desk.architectures.get(bytes.fromhex(manifest.manifest_digest))
    if architecture is None:
        raise ModelUnknownError("The checkpoint's base model is not in the catalogue.")
    if manifest.lora is None:
        raise NothingToPackageError("The checkpoint is of no LoRA run.")
    return PackageSubject(
        request_id=order.request.package_id,
        line=manifest.run_id,
        release_counter=order.request.release_counter,
        created_at=order.asked_at,
        expires_at=order.request.expires_at,
        compatibility=Compatibility(
            model=manifest.model,
            model_manifest_digest=manifest.manifest_digest,
            tokenizer_digest=manifest.tokenizer_digest,
            architecture=architecture,
            adapter=manifest.lora,
        ),
        evidence=Evidence(
            tenant=manifest.tenant,
            run_id=manifest.run_id,
            artifact_id=manifest.artifact_id,
            artifact_manifest_digest=order.request.manifest_digest.hex(),
            artifact_content_hash=manifest.payload.sha256,
            adapter_digest=manifest.adapter_digest,
            model=manifest.model,
            model_manifest_digest=manifest.manifest_digest,
            tokenizer_digest=manifest.tokenizer_digest,
            step=manifest.step,
            checkpoint_created_at=manifest.created_at,
        ),
    )
