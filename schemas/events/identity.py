"""Who may speak: producers, API keys, and the keys that sign the ledger and its artifacts."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Event


@dataclass(frozen=True, slots=True)
class ProducerEnrolled(Event):
    """A producer's key may sign commands of its role on this chain."""

    key_id: bytes
    public_key: bytes
    role: str
    name: str
    hpke_public_key: bytes | None


@dataclass(frozen=True, slots=True)
class ProducerRevoked(Event):
    """A producer's key may sign no more."""

    key_id: bytes


@dataclass(frozen=True, slots=True)
class ApiKeyIssued(Event):
    """An API key exists; only its keyed hash is known."""

    key_id: str
    secret_hash: bytes
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiKeyRevoked(Event):
    """An API key opens nothing any more."""

    key_id: str


@dataclass(frozen=True, slots=True)
class SignerKeyPublished(Event):
    """The signer's first keys."""

    ed25519_key: bytes
    mldsa44_key: bytes


@dataclass(frozen=True, slots=True)
class SignerKeyRotated(Event):
    """The signer signs with new keys from here on."""

    previous_ed25519_key: bytes
    ed25519_key: bytes
    mldsa44_key: bytes


@dataclass(frozen=True, slots=True)
class ArtifactKeyPublished(Event):
    """A composite key (ML-DSA-65 and Ed25519) that signs checkpoints and packages."""

    key_id: bytes
    public_key: bytes
