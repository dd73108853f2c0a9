"""Reading a sealed artifact: signature, digests and sizes, key, commitment, and only then the plaintext, into RAM."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from tensorguard.artifact.errors import CheckpointDamagedError, CheckpointTruncatedError, CheckpointWrongKeyError
from tensorguard.artifact.manifest import CONTEXT, END, MAX_MANIFEST_BYTES, ArtifactManifest, parse_manifest
from tensorguard.artifact.store import MANIFEST, PAYLOAD, SIGNATURE, ArtifactStore, artifact_prefix
from tensorguard.crypto import composite, stream, wrap
from tensorguard.crypto.errors import (
    CryptoError,
    StreamDamagedError,
    StreamExtraBytesError,
    StreamTruncatedError,
)
from tensorguard.crypto.memory import wipe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tensorguard.crypto.composite import CompositePublicKey
    from tensorguard.crypto.wrap import Dek


def open_artifact(
    store: ArtifactStore,
    *,
    tenant: str,
    artifact_id: str,
    dek: Dek,
    trusted: Iterable[CompositePublicKey],
    manifest_digest: bytes | None = None,
) -> tuple[ArtifactManifest, bytearray]:
    """The verified manifest and the plaintext, in a buffer that the caller wipes.

    ``manifest_digest`` is what the ledger says of it; with it, no other artifact can stand in.

    Raises:
        CheckpointDamagedError: bytes are not the ones that were signed.
        CheckpointTruncatedError: a file ends too early.
        CheckpointWrongKeyError: it is another tenant's, or signed by a key that is not trusted.
    """
    manifest = read_manifest(
        store, tenant=tenant, artifact_id=artifact_id, trusted=trusted, manifest_digest=manifest_digest
    )
    opener = manifest.stream_key(_artifact_key(manifest, dek))
    with _open(store, tenant, artifact_id, PAYLOAD) as source:
        _check_size(source, manifest.payload.size)
        return manifest, _decrypt(source, manifest, opener)


def read_manifest(
    store: ArtifactStore,
    *,
    tenant: str,
    artifact_id: str,
    trusted: Iterable[CompositePublicKey],
    manifest_digest: bytes | None = None,
) -> ArtifactManifest:
    """The verified manifest alone; nothing is decrypted. Raises what :func:`open_artifact` raises."""
    with _open(store, tenant, artifact_id, MANIFEST) as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if not data.endswith(END):
        raise CheckpointTruncatedError("The checkpoint's manifest ends too early.")
    if manifest_digest is not None and sha256(data).digest() != manifest_digest:
        raise CheckpointDamagedError("The checkpoint's manifest is not the one that the ledger names.")
    try:
        manifest = parse_manifest(data)
    except ValueError as error:
        raise CheckpointDamagedError("The checkpoint's manifest cannot be read.") from error
    _check_signature(store, manifest, data, tenant, artifact_id, trusted)
    if (manifest.tenant, manifest.artifact_id) != (tenant, artifact_id):
        raise CheckpointWrongKeyError("The checkpoint's manifest is another tenant's or another artifact's.")
    return manifest


def _check_signature(
    store: ArtifactStore,
    manifest: ArtifactManifest,
    data: bytes,
    tenant: str,
    artifact_id: str,
    trusted: Iterable[CompositePublicKey],
) -> None:
    public_key = {key.key_id.hex(): key for key in trusted}.get(manifest.signing_key_id)
    if public_key is None:
        raise CheckpointWrongKeyError("The checkpoint is signed by a key that is not trusted here.")
    with _open(store, tenant, artifact_id, SIGNATURE) as file:
        signature = file.read(composite.SIGNATURE_BYTES + 1)
    if len(signature) < composite.SIGNATURE_BYTES:
        raise CheckpointTruncatedError("The checkpoint's signature ends too early.")
    try:
        public_key.verify(signature, data, CONTEXT)
    except CryptoError as error:
        raise CheckpointDamagedError("The checkpoint's signature does not verify.") from error


def _artifact_key(manifest: ArtifactManifest, dek: Dek) -> bytes:
    try:
        key = wrap.unwrap_key(dek.key, bytes.fromhex(manifest.key.wrapped))
        stream.check_commitment(key, bytes.fromhex(manifest.key.commitment))
    except CryptoError as error:
        raise CheckpointWrongKeyError("The checkpoint's key does not open with this tenant's key.") from error
    return key


def _open(store: ArtifactStore, tenant: str, artifact_id: str, name: str) -> BinaryIO:
    try:
        return store.open(f"{artifact_prefix(tenant, artifact_id)}/{name}")
    except FileNotFoundError as error:
        raise CheckpointDamagedError(f"The checkpoint's {name} is missing.") from error


def _check_size(source: BinaryIO, expected: int) -> None:
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    if size < expected:
        raise CheckpointTruncatedError(f"The checkpoint's payload has {size} of {expected} bytes.")
    if size > expected:
        raise CheckpointDamagedError(f"The checkpoint's payload has {size - expected} bytes too many.")


def _decrypt(source: BinaryIO, manifest: ArtifactManifest, opener: stream.StreamKey) -> bytearray:
    payload = manifest.payload
    if payload.size != stream.sealed_size(payload.plaintext_size, payload.chunk_size):
        raise CheckpointDamagedError("The checkpoint's sizes contradict each other.")
    plaintext = bytearray(payload.plaintext_size)
    try:
        digest = stream.decrypt_into(_readable(source), memoryview(plaintext), opener)
    except StreamTruncatedError as error:
        wipe(plaintext)
        raise CheckpointTruncatedError("The checkpoint's payload ends too early.") from error
    except (StreamDamagedError, StreamExtraBytesError) as error:
        wipe(plaintext)
        raise CheckpointDamagedError("The checkpoint's payload is not what was signed.") from error
    if digest.hex() != payload.sha256:
        wipe(plaintext)
        raise CheckpointDamagedError("The checkpoint's payload has another digest than was signed.")
    return plaintext


def _readable(source: BinaryIO) -> stream.Source:
    return source  # type: ignore[return-value]  # every binary file object has readinto; typing's BinaryIO lacks it
