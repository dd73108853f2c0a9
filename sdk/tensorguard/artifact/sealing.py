"""Making a sealed artifact: the plaintext goes from memory through the cipher; only ciphertext is written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from tensorguard.artifact.manifest import CONTEXT, ArtifactManifest, ArtifactSubject, Payload, WrappedKey, header_hash
from tensorguard.artifact.store import MANIFEST, PAYLOAD, SIGNATURE, ArtifactStore, artifact_prefix
from tensorguard.crypto import stream, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tensorguard.crypto.composite import CompositePrivateKey
    from tensorguard.crypto.memory import Data
    from tensorguard.crypto.wrap import Dek


@dataclass(frozen=True, slots=True)
class SealedArtifact:
    """What was written. ``content_hash`` is SHA-256 of the ciphertext, ``manifest_digest`` of the manifest's bytes."""

    manifest: ArtifactManifest
    manifest_digest: bytes
    content_hash: bytes
    size_bytes: int


def seal_artifact(
    subject: ArtifactSubject,
    plaintext: Iterable[Data],
    *,
    store: ArtifactStore,
    dek: Dek,
    signing_key: CompositePrivateKey,
    chunk_size: int = stream.CHUNK_BYTES,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> SealedArtifact:
    """Encrypt buffers under a fresh key, wrap it by the tenant's, sign, and store; the manifest comes last.

    An artifact whose manifest is missing was never finished. Errors of the store pass through.
    """
    key, prefix = random_bytes(stream.KEY_BYTES), random_bytes(stream.PREFIX_BYTES)
    commitment = stream.key_commitment(key)
    opener = stream.StreamKey(key, header_hash(subject, prefix, chunk_size, commitment), prefix, chunk_size)
    folder = artifact_prefix(subject.tenant, subject.artifact_id)
    with store.put(f"{folder}/{PAYLOAD}") as out:
        sealed = stream.encrypt_stream(plaintext, out.write, opener)
    manifest = ArtifactManifest(
        **dict(subject),
        payload=Payload(
            sha256=sealed.sha256.hex(),
            size=sealed.size,
            plaintext_size=sealed.plaintext_size,
            chunk_size=chunk_size,
            nonce_prefix=prefix.hex(),
        ),
        key=WrappedKey(wrapped=wrap.wrap_key(dek.key, key).hex(), dek_id=dek.id, commitment=commitment.hex()),
        signing_key_id=signing_key.public_key.key_id.hex(),
    )
    data = manifest.to_bytes()
    for name, content in ((SIGNATURE, signing_key.sign(data, CONTEXT)), (MANIFEST, data)):
        with store.put(f"{folder}/{name}") as out:
            out.write(content)
    return SealedArtifact(manifest, sha256(data).digest(), sealed.sha256, sealed.size)
