"""Where exports read checkpoints from, and whose signatures they believe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.artifact import open_artifact, read_manifest
from tensorguard.crypto.composite import PRIVATE_BYTES, CompositePrivateKey

from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider
from producers.secretfiles import read_secret

if TYPE_CHECKING:
    from tensorguard.artifact import ArtifactManifest
    from tensorguard.crypto.composite import CompositePublicKey

    from processors.blobs.port import BlobStore
    from processors.keys.port import KeyProvider
    from producers.installation import Installation


class Checkpoints:
    """The checkpoints of one installation. Both methods raise what opening an artifact raises."""

    def __init__(self, store: BlobStore, keys: KeyProvider, trusted: CompositePublicKey) -> None:
        self._store = store
        self._keys = keys
        self._trusted = trusted

    @classmethod
    def of(cls, installation: Installation) -> Checkpoints:
        """Those of an installation."""
        key = CompositePrivateKey(read_secret(installation.artifact_signing_key, PRIVATE_BYTES)).public_key
        return cls(FileBlobStore(installation.blobs_dir), FileKeyProvider.of(installation), key)

    def manifest(self, tenant: str, artifact_id: bytes, digest: bytes) -> ArtifactManifest:
        """The verified manifest alone."""
        return read_manifest(
            self._store,
            tenant=tenant,
            artifact_id=artifact_id.hex(),
            trusted=[self._trusted],
            manifest_digest=digest,
        )

    def open(self, tenant: str, artifact_id: bytes, digest: bytes) -> tuple[ArtifactManifest, bytearray]:
        """The verified manifest and the plaintext, in a buffer that the caller wipes."""
        return open_artifact(
            self._store,
            tenant=tenant,
            artifact_id=artifact_id.hex(),
            dek=self._keys.tenant_dek(tenant),
            trusted=[self._trusted],
            manifest_digest=digest,
        )
