"""Who shall be allowed to speak."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Command


@dataclass(frozen=True, slots=True)
class EnrolProducer(Command):
    """Let a producer's key sign commands of its role."""

    key_id: bytes
    public_key: bytes
    role: str
    name: str
    hpke_public_key: bytes | None


@dataclass(frozen=True, slots=True)
class RevokeProducer(Command):
    """Let a producer's key sign no more."""

    key_id: bytes


@dataclass(frozen=True, slots=True)
class IssueApiKey(Command):
    """Make an API key known by its keyed hash."""

    key_id: str
    secret_hash: bytes
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RevokeApiKey(Command):
    """Let an API key open nothing any more."""

    key_id: str


@dataclass(frozen=True, slots=True)
class PublishSignerKey(Command):
    """Publish the signer's first keys."""

    ed25519_key: bytes
    mldsa44_key: bytes


@dataclass(frozen=True, slots=True)
class RotateSignerKey(Command):
    """Publish the signer's next keys."""

    previous_ed25519_key: bytes
    ed25519_key: bytes
    mldsa44_key: bytes


@dataclass(frozen=True, slots=True)
class PublishArtifactKey(Command):
    """Publish a composite key that signs checkpoints and packages."""

    key_id: bytes
    public_key: bytes
