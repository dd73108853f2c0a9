"""What the packager knows from the ledger: orders that wait, devices, and what models are built like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from processors import workshop
from schemas import events as e

if TYPE_CHECKING:
    from processors.base import Recorded

DEVICE = "device"
EVENTS: frozenset[type[Any]] = frozenset(
    {
        e.PackageRequested,
        e.PackageSigned,
        e.PackageFailed,
        e.ProducerEnrolled,
        e.ProducerRevoked,
        e.ModelRegistered,
    }
)


Order: TypeAlias = workshop.Order[e.PackageRequested]
"""A package that was asked for."""


@dataclass(slots=True)
class Desk(workshop.Desk[e.PackageRequested]):
    """The fold. HPKE keys by (chain, device), architectures by model manifest digest."""

    hpke_keys: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    architectures: dict[bytes, str] = field(default_factory=dict)

    def take(self, recorded: Recorded) -> None:
        """Fold one event."""
        match recorded.event:
            case e.PackageRequested() as event:
                self.ask(recorded, event.package_id, event)
            case e.PackageSigned(package_id=package_id) | e.PackageFailed(package_id=package_id):
                self.finish(recorded, package_id)
            case e.ProducerEnrolled(role=role, hpke_public_key=bytes() as key) as event if role == DEVICE:
                self.hpke_keys[recorded.chain, event.key_id] = key
            case e.ProducerRevoked() as event:
                self.hpke_keys.pop((recorded.chain, event.key_id), None)
            case e.ModelRegistered() as event:
                self.architectures[event.manifest_digest] = event.architecture
            case _:
                pass
