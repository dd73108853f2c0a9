"""Packages: asked for, signed or failed, opened by devices. Stream ``package/<package id hex>``."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from producers.deciders.context import Context, Decision, Rejected
from producers.deciders.producer import ProducerState, stream_of_key
from schemas import commands as c
from schemas import events as e
from schemas.base import Command, Event


@dataclass(frozen=True, slots=True)
class PackageState:
    """A package; it has a digest once it is signed."""

    package_id: bytes
    recipients: tuple[bytes, ...]
    package_digest: bytes | None = None
    failed: bool = False


def decide(state: PackageState | None, command: Command, ctx: Context) -> Decision:
    """What a package makes of a command."""
    if isinstance(command, c.RequestPackage):
        return _request(state, command, ctx)
    if state is None:
        return Rejected("not_found", "No such package was asked for on this chain.")
    if isinstance(command, c.RecordPackageOpened):
        return _open(state, command, ctx)
    return _finish(state, command)


def _request(state: PackageState | None, command: c.RequestPackage, ctx: Context) -> Decision:
    if state is not None:
        return Rejected("already_exists", "A package of this id was asked for before.")
    if ctx.find(f"run/{command.run_id}") is None:
        return Rejected("not_found", "There is no such run on this chain.")
    if command.expires_at is not None and command.expires_at <= ctx.now:
        return Rejected("invalid_value", "RequestPackage.expires_at must be in the future.")
    if not all(_is_device(ctx.find(stream_of_key(recipient))) for recipient in command.recipients):
        return Rejected("not_found", "A recipient is no device of this chain, or is revoked.")
    return (e.PackageRequested(**{f.name: getattr(command, f.name) for f in fields(command)}),)


def _is_device(producer: object | None) -> bool:
    return isinstance(producer, ProducerState) and producer.role == "device" and not producer.revoked


def _finish(state: PackageState, command: Command) -> Decision:
    if state.failed or state.package_digest is not None:
        return Rejected("operation_finished", "The package is signed or failed.")
    if isinstance(command, c.RecordPackageSigned):
        return (e.PackageSigned(**{f.name: getattr(command, f.name) for f in fields(command)}),)
    if isinstance(command, c.FailPackage):
        return (e.PackageFailed(command.package_id, command.code),)
    return Rejected("wrong_stream", "A package's stream takes commands about packages only.")


def _open(state: PackageState, command: c.RecordPackageOpened, ctx: Context) -> Decision:
    if command.device != ctx.key_id:
        return Rejected("forbidden", "A device reports for itself only.")
    if command.device not in state.recipients:
        return Rejected("forbidden", "The package is not sealed to this device.")
    if state.package_digest is None:
        return Rejected("not_found", "The package is not signed.")
    if command.package_digest != state.package_digest:
        return Rejected("invalid_value", "RecordPackageOpened.package_digest is another package's.")
    return (e.PackageOpened(command.package_id, command.package_digest, command.device),)


def evolve(state: PackageState | None, event: Event) -> PackageState | None:
    """The state after one more event."""
    match event:
        case e.PackageRequested():
            return PackageState(event.package_id, event.recipients)
        case e.PackageSigned() if state:
            return replace(state, package_digest=event.package_digest)
        case e.PackageFailed() if state:
            return replace(state, failed=True)
        case _:
            return state
