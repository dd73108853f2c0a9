"""What the packager knows from the ledger: orders that wait, devices, and what models are built like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True, slots=True)
class Order:
    """A package that was asked for; ``asked_at`` is microseconds, ``trigger`` the id of the event."""

    chain: str
    request: e.PackageRequested
    asked_at: int
    trigger: bytes


@dataclass(slots=True)
class Desk:
    """The fold. HPKE keys by (chain, device), architectures by model manifest digest."""

    waiting: dict[bytes, Order] = field(default_factory=dict)
    hpke_keys: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    architectures: dict[bytes, str] = field(default_factory=dict)

    def take(self, recorded: Recorded) -> None:
        """Fold one event."""
        match recorded.event:
            case e.PackageRequested() as event:
                meta = recorded.meta
                self.waiting[event.package_id] = Order(recorded.chain, event, meta.recorded_at, meta.event_id)
            case e.PackageSigned(package_id=package_id) | e.PackageFailed(package_id=package_id):
                self.waiting.pop(package_id, None)
            case e.ProducerEnrolled(role=role, hpke_public_key=bytes() as key) as event if role == DEVICE:
                self.hpke_keys[recorded.chain, event.key_id] = key
            case e.ProducerRevoked() as event:
                self.hpke_keys.pop((recorded.chain, event.key_id), None)
            case e.ModelRegistered() as event:
                self.architectures[event.manifest_digest] = event.architecture
            case _:
                pass

    def hand_out(self) -> list[Order]:
        """All orders that wait, oldest first; they wait no longer."""
        orders = sorted(self.waiting.values(), key=lambda order: order.asked_at)
        self.waiting.clear()
        return orders
