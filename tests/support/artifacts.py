"""Look into a sealed checkpoint with the keys that its own tenant has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.artifact import open_artifact
from tensorguard.crypto.composite import CompositePublicKey

from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider
from producers.trustroot import artifact_public_key

if TYPE_CHECKING:
    from producers.installation import Installation


def open_checkpoint(installation: Installation, tenant: str, artifact_id: str) -> bytes:
    """The plaintext safetensors image of a checkpoint."""
    trusted = CompositePublicKey(artifact_public_key(installation.artifact_signing_key).public_key)
    _, plaintext = open_artifact(
        FileBlobStore(installation.data_dir / "blobs"),
        tenant=tenant,
        artifact_id=artifact_id,
        dek=FileKeyProvider.of(installation).tenant_dek(tenant),
        trusted=[trusted],
    )
    return bytes(plaintext)
