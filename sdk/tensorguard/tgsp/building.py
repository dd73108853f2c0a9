"""Making a package: weights encrypted under a fresh key, everything else signed, the key sealed to each device."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from tensorguard.crypto import stream
from tensorguard.tgsp import archive, recipients
from tensorguard.tgsp.archive import Content
from tensorguard.tgsp.container import Entry
from tensorguard.tgsp.manifest import (
    CONTEXT,
    EVIDENCE,
    MANIFEST,
    RECIPIENTS,
    SIGNATURE,
    WEIGHTS,
    Compatibility,
    EntryDigest,
    PackageManifest,
    PayloadHeader,
    Suites,
    header_hash,
)
from tensorguard.tgsp.package import package_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tensorguard.crypto.composite import CompositePrivateKey
    from tensorguard.crypto.memory import Data
    from tensorguard.crypto.stream import SealedStream
    from tensorguard.tgsp.evidence import Evidence
    from tensorguard.tgsp.recipients import Device


@dataclass(frozen=True, slots=True)
class PackageSubject:
    """What is asked for; see :class:`PackageManifest`. Made in offline mode: the key is sealed to the devices."""

    request_id: bytes
    line: str
    release_counter: int
    created_at: int
    expires_at: int | None
    compatibility: Compatibility
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class BuiltPackage:
    """What was written: ids are SHA-256 of the manifest's bytes and of the whole file."""

    manifest: PackageManifest
    package_id: bytes
    file_digest: bytes


def build_package(
    out: BinaryIO,
    scratch: BinaryIO,
    subject: PackageSubject,
    plaintext: Iterable[Data],
    *,
    devices: Sequence[Device],
    signing_key: CompositePrivateKey,
    chunk_size: int = stream.CHUNK_BYTES,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> BuiltPackage:
    """Write a package to ``out``; ``scratch`` takes the ciphertext until its digest is known.

    Raises:
        KeyMalformedError: a device's public key is none.
    """
    key, prefix = random_bytes(stream.KEY_BYTES), random_bytes(stream.PREFIX_BYTES)
    commitment = stream.key_commitment(key)
    header = header_hash(
        tenant=subject.evidence.tenant,
        request_id=subject.request_id.hex(),
        nonce_prefix=prefix,
        chunk_size=chunk_size,
        commitment=commitment,
    )
    sealed, crc = _encrypt(plaintext, scratch, stream.StreamKey(key, header, prefix, chunk_size))
    evidence = Content.of(EVIDENCE, subject.evidence.to_bytes())
    payload = PayloadHeader(
        chunk_size=chunk_size,
        nonce_prefix=prefix.hex(),
        plaintext_size=sealed.plaintext_size,
        key_commitment=commitment.hex(),
    )
    weights = EntryDigest(sha256=sealed.sha256.hex(), size=sealed.size)
    manifest = _manifest(subject, payload, weights, signing_key.public_key.key_id)
    data = manifest.to_bytes()
    package_id = package_id_of(data)
    contents = [
        evidence,
        Content.of(MANIFEST, data),
        Content.of(SIGNATURE, signing_key.sign(data, CONTEXT)),
        Content.of(RECIPIENTS, recipients.seal_to(devices, key, manifest, package_id)),
        Content(Entry(WEIGHTS, sealed.size, crc), scratch),
    ]
    return BuiltPackage(manifest, package_id, archive.write(out, contents))


def _manifest(
    subject: PackageSubject, payload: PayloadHeader, weights: EntryDigest, signing_key_id: bytes
) -> PackageManifest:
    evidence = subject.evidence.to_bytes()
    return PackageManifest(
        tenant=subject.evidence.tenant,
        request_id=subject.request_id.hex(),
        line=subject.line,
        release_mode="offline",
        release_counter=subject.release_counter,
        created_at=subject.created_at,
        expires_at=subject.expires_at,
        compatibility=subject.compatibility,
        suites=Suites(),
        weights=payload,
        entries={
            EVIDENCE: EntryDigest(sha256=sha256(evidence).hexdigest(), size=len(evidence)),
            WEIGHTS: weights,
        },
        signing_key_id=signing_key_id.hex(),
    )


def _encrypt(plaintext: Iterable[Data], scratch: BinaryIO, key: stream.StreamKey) -> tuple[SealedStream, int]:
    """The sealed stream and the CRC-32 of its ciphertext."""
    crc = 0

    def write(chunk: memoryview) -> None:
        nonlocal crc
        crc = zlib.crc32(chunk, crc)
        scratch.write(chunk)

    sealed = stream.encrypt_stream(plaintext, write, key)
    scratch.flush()
    return sealed, crc
