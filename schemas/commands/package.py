"""What is asked of the packager, and what it and the devices report."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Command


@dataclass(frozen=True, slots=True)
class RequestPackage(Command):
    """Package a checkpoint for devices."""

    package_id: bytes
    run_id: str
    artifact_id: bytes
    manifest_digest: bytes
    recipients: tuple[bytes, ...]
    release_counter: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class RecordPackageSigned(Command):
    """Report a signed package."""

    package_id: bytes
    package_digest: bytes
    file_digest: bytes
    size_bytes: int
    signing_key_id: bytes


@dataclass(frozen=True, slots=True)
class FailPackage(Command):
    """Report a package that could not be made."""

    package_id: bytes
    code: str


@dataclass(frozen=True, slots=True)
class RecordPackageOpened(Command):
    """Report that this device opened a package."""

    package_id: bytes
    package_digest: bytes
    device: bytes
