"""A secure model package: asked for, signed, opened by a device."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Event


@dataclass(frozen=True, slots=True)
class PackageRequested(Event):
    """A package of a checkpoint is asked for."""

    package_id: bytes
    run_id: str
    artifact_id: bytes
    manifest_digest: bytes
    recipients: tuple[bytes, ...]
    release_counter: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class PackageSigned(Event):
    """A package exists; its id is the hash of its signed content."""

    package_id: bytes
    package_digest: bytes
    file_digest: bytes
    size_bytes: int
    signing_key_id: bytes


@dataclass(frozen=True, slots=True)
class PackageFailed(Event):
    """A package could not be made."""

    package_id: bytes
    code: str


@dataclass(frozen=True, slots=True)
class PackageOpened(Event):
    """A device verified and decrypted a package into memory."""

    package_id: bytes
    package_digest: bytes
    device: bytes
