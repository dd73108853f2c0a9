"""What the signature of an artifact covers: whose it is, what is in it, and every digest of it.

``header_hash`` ties the encrypted payload to its artifact before the ciphertext's digest is known; the signature
then covers the exact bytes of the manifest, digest included.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tensorguard.crypto import binding, composite, stream, wrap

FORMAT: Final = "tensorguard/artifact/v1"
CONTEXT = b"tensorguard/artifact/v1"
MAX_MANIFEST_BYTES = 1 << 16
END = b"}\n"

Hex16 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
HexBytes = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$", max_length=1024)]
Tenant = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class Strict(BaseModel):
    """A value without unknown fields and without conversions; it never changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LoraSettings(Strict):
    """The adapter's shape."""

    rank: int
    alpha: float
    dropout: float
    target_modules: list[str]
    bias: str
    use_rslora: bool = False
    use_dora: bool = False


class OptimizerSettings(Strict):
    """The optimizer's settings."""

    name: str
    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float
    eps: float
    momentum: float = 0.0
    max_grad_norm: float | None = None


class ArtifactSubject(Strict):
    """What the maker of an artifact says of it. ``created_at`` is microseconds since the epoch; digests are hex."""

    artifact_id: Hex16
    tenant: Tenant
    run_id: Name
    kind: Literal["checkpoint"] = "checkpoint"
    step: Count
    through_op_seq: Count
    model: Name
    manifest_digest: Hex32
    tokenizer_digest: Hex32
    lora: LoraSettings | None
    optimizer: OptimizerSettings
    includes_optimizer: bool
    adapter_digest: Hex32
    created_at: Count


class Payload(Strict):
    """The encrypted payload: digest and sizes of the ciphertext, and how it was made."""

    algorithm: Literal["AES-256-GCM"] = stream.ALGORITHM
    sha256: Hex32
    size: Count
    plaintext_size: Count
    chunk_size: Annotated[int, Field(gt=0, le=stream.MAX_CHUNK_BYTES)]
    nonce_prefix: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{14}$")]


class WrappedKey(Strict):
    """The artifact's key under the tenant's."""

    algorithm: Literal["AES-256-KWP"] = wrap.ALGORITHM
    wrapped: HexBytes
    dek_id: Name
    commitment: Hex32


class ArtifactManifest(ArtifactSubject):
    """The signed whole."""

    format: Literal["tensorguard/artifact/v1"] = FORMAT
    payload: Payload
    key: WrappedKey
    signature_algorithm: Literal["MLDSA65-Ed25519-SHA512"] = composite.ALGORITHM
    signing_key_id: Hex32

    def to_bytes(self) -> bytes:
        """The bytes that are stored and signed: canonical JSON and a newline."""
        text = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode() + b"\n"

    def stream_key(self, key: bytes) -> stream.StreamKey:
        """What opens the payload, given the artifact's key."""
        prefix = bytes.fromhex(self.payload.nonce_prefix)
        header = header_hash(self, prefix, self.payload.chunk_size, bytes.fromhex(self.key.commitment))
        return stream.StreamKey(key, header, prefix, self.payload.chunk_size)


def header_hash(subject: ArtifactSubject, nonce_prefix: bytes, chunk_size: int, commitment: bytes) -> bytes:
    """The additional data of every chunk: the payload opens as this artifact of this tenant only (32 bytes)."""
    return binding.bound_hash(
        "tensorguard/artifact-header/v1",
        bytes.fromhex(subject.artifact_id),
        subject.tenant.encode(),
        subject.run_id.encode(),
        stream.ALGORITHM.encode(),
        nonce_prefix,
        chunk_size.to_bytes(4, "big"),
        commitment,
    )


def parse_manifest(data: bytes) -> ArtifactManifest:
    """A manifest from its stored bytes.

    Raises:
        ValueError: they are none, or name another format or algorithm.
    """
    try:
        return ArtifactManifest.model_validate(json.loads(data, object_pairs_hook=unique_object))
    except (ValidationError, RecursionError) as error:
        raise ValueError("not an artifact manifest of this format") from error


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are all different.

    Raises:
        ValueError: a key stands twice.
    """
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a JSON object names a key twice")
    return value
