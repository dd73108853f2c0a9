"""Secure model packages."""

from __future__ import annotations

from producers.feed import Recorded
from projections.handlers.registry import Handlers, View
from projections.models import Package, PackageOpening
from schemas import events

HANDLERS = Handlers()


@HANDLERS.on(events.PackageRequested)
def package_requested(view: View, at: Recorded, event: events.PackageRequested) -> None:
    """A package waits for the packager."""
    view.session.add(
        Package(
            chain=at.chain,
            package_id=event.package_id.hex(),
            run_id=event.run_id,
            artifact_id=event.artifact_id.hex(),
            manifest_digest=event.manifest_digest.hex(),
            recipients=[recipient.hex() for recipient in event.recipients],
            release_counter=event.release_counter,
            expires_at=event.expires_at,
            status="pending",
            seq=at.seq,
            requested_at=at.meta.recorded_at,
        )
    )
    view.touched.add(event.package_id.hex())


@HANDLERS.on(events.PackageSigned)
def package_signed(view: View, at: Recorded, event: events.PackageSigned) -> None:
    """The package exists."""
    package = _finish(view, at, event.package_id, "signed")
    package.package_digest = event.package_digest.hex()
    package.file_digest = event.file_digest.hex()
    package.size_bytes = event.size_bytes
    package.signing_key_id = event.signing_key_id.hex()


@HANDLERS.on(events.PackageFailed)
def package_failed(view: View, at: Recorded, event: events.PackageFailed) -> None:
    """The package could not be made."""
    _finish(view, at, event.package_id, "failed").error_code = event.code


@HANDLERS.on(events.PackageOpened)
def package_opened(view: View, at: Recorded, event: events.PackageOpened) -> None:
    """A device opened a package."""
    view.session.add(
        PackageOpening(
            chain=at.chain,
            seq=at.seq,
            package_id=event.package_id.hex(),
            package_digest=event.package_digest.hex(),
            device=event.device.hex(),
            opened_at=at.meta.recorded_at,
        )
    )


def _finish(view: View, at: Recorded, package_id: bytes, status: str) -> Package:
    package = view.session.get_one(Package, (at.chain, package_id.hex()))
    package.status = status
    package.finished_seq = at.seq
    package.finished_at = at.meta.recorded_at
    view.touched.add(package.package_id)
    return package
