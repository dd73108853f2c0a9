"""What a package's signature covers. The package id is the SHA-256 of these exact bytes, never of the signature's."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, ValidationError

from tensorguard.artifact.manifest import (
    Count,
    Hex16,
    Hex32,
    LoraSettings,
    Name,
    Strict,
    Tenant,
    unique_object,
)
from tensorguard.crypto import binding, composite, hpke, stream
from tensorguard.crypto.errors import UnknownAlgorithmError
from tensorguard.tgsp.errors import PackageMalformedError

FORMAT: Final = "TGSP/v1"
CONTEXT = b"TGSP/v1/manifest"
MANIFEST, SIGNATURE, RECIPIENTS = "manifest.json", "manifest.sig", "recipients.json"
WEIGHTS, EVIDENCE, POLICY = "weights.enc", "evidence.json", "policy.rego"
OPTIMIZATION, DP_CERTIFICATE = "optimization.json", "dp_certificate.json"
OUTSIDE = frozenset({MANIFEST, SIGNATURE, RECIPIENTS})
REQUIRED = frozenset({WEIGHTS, EVIDENCE})
OPTIONAL = frozenset({POLICY, OPTIMIZATION, DP_CERTIFICATE})
MAX_MANIFEST_BYTES = 1 << 18
MAX_SMALL_BYTES = 1 << 22

SUITES: Final = {
    "hash": "SHA-256",
    "signature": composite.ALGORITHM,
    "payload": stream.ALGORITHM,
    "recipients": hpke.SUITE_NAME,
}


class Suites(Strict):
    """The algorithms of the package, all of them known or the package is refused."""

    hash: Literal["SHA-256"] = "SHA-256"
    signature: Literal["MLDSA65-Ed25519-SHA512"] = composite.ALGORITHM
    payload: Literal["AES-256-GCM"] = stream.ALGORITHM
    recipients: Literal["HPKE-MLKEM768_X25519-HKDF_SHA256-AES_256_GCM"] = hpke.SUITE_NAME


class Compatibility(Strict):
    """The base model that the weights belong on. Digests are hex; see ``tensorguard.model_manifest``."""

    model: Name
    model_manifest_digest: Hex32
    tokenizer_digest: Hex32
    architecture: Name
    adapter: LoraSettings


class PayloadHeader(Strict):
    """How ``weights.enc`` was made; its plaintext is a safetensors file of the adapter's tensors."""

    format: Literal["safetensors"] = "safetensors"
    chunk_size: Annotated[int, Field(gt=0, le=stream.MAX_CHUNK_BYTES)]
    nonce_prefix: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{14}$")]
    plaintext_size: Count
    key_commitment: Hex32


class EntryDigest(Strict):
    """SHA-256 (hex) and size of an entry."""

    sha256: Hex32
    size: Count


class PackageManifest(Strict):
    """The signed whole. Times are microseconds since the epoch.

    ``request_id`` names the request on the ledger. ``line`` names what a later release replaces; within a line,
    ``release_counter`` only rises.
    """

    format: Literal["TGSP/v1"] = FORMAT
    tenant: Tenant
    request_id: Hex16
    line: Name
    release_mode: Literal["offline", "broker"]
    release_counter: Count
    created_at: Count
    expires_at: Count | None
    compatibility: Compatibility
    suites: Suites
    weights: PayloadHeader
    entries: dict[str, EntryDigest]
    signing_key_id: Hex32

    def to_bytes(self) -> bytes:
        """The bytes that are stored and signed: canonical JSON and a newline."""
        text = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode() + b"\n"

    @property
    def header_hash(self) -> bytes:
        """What every chunk of the weights and every recipient's seal are bound to: 32 bytes."""
        header = self.weights
        return header_hash(
            tenant=self.tenant,
            request_id=self.request_id,
            nonce_prefix=bytes.fromhex(header.nonce_prefix),
            chunk_size=header.chunk_size,
            commitment=bytes.fromhex(header.key_commitment),
        )

    def stream_key(self, key: bytes) -> stream.StreamKey:
        """What opens the weights, given the package's data key."""
        return stream.StreamKey(
            key, self.header_hash, bytes.fromhex(self.weights.nonce_prefix), self.weights.chunk_size
        )


def header_hash(*, tenant: str, request_id: str, nonce_prefix: bytes, chunk_size: int, commitment: bytes) -> bytes:
    """See :attr:`PackageManifest.header_hash`; known before the weights are encrypted."""
    return binding.bound_hash(
        "TGSP/v1/header",
        tenant.encode(),
        bytes.fromhex(request_id),
        stream.ALGORITHM.encode(),
        nonce_prefix,
        chunk_size.to_bytes(4, "big"),
        commitment,
    )


def parse_manifest(data: bytes) -> PackageManifest:
    """A manifest from its stored bytes, whose signature was checked before.

    Raises:
        UnknownAlgorithmError: it names a format version or an algorithm that this build does not have.
        PackageMalformedError: it is not a manifest otherwise.
    """
    try:
        value = json.loads(data, object_pairs_hook=unique_object)
        _check_algorithms(value)
        manifest = PackageManifest.model_validate(value)
    except (ValidationError, ValueError, RecursionError) as error:
        raise PackageMalformedError("The package's manifest is not in the known form.") from error
    names = manifest.entries.keys()
    if not (names >= REQUIRED and names <= REQUIRED | OPTIONAL):
        raise PackageMalformedError("The package's manifest lists entries that no package has, or lacks some.")
    return manifest


def _check_algorithms(value: Any) -> None:
    if not isinstance(value, dict) or not isinstance(value.get("suites"), dict):
        raise PackageMalformedError("The package's manifest is not in the known form.")
    if value.get("format") != FORMAT:
        raise UnknownAlgorithmError(f"Only packages of format {FORMAT} are known.")
    if value["suites"] != SUITES:
        raise UnknownAlgorithmError("The package uses an algorithm that this build does not accept.")
