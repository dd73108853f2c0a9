"""What the exporter knows from the ledger: exports that wait, and what base models are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from schemas import events as e

if TYPE_CHECKING:
    from processors.base import Recorded

EVENTS: frozenset[type[Any]] = frozenset(
    {e.ArtifactExportRequested, e.ArtifactExported, e.ArtifactExportFailed, e.ModelRegistered}
)
MERGED = "merged"


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """A base model's architecture, the dtype that runs load it in, and where it came from."""

    architecture: str
    dtype: str
    source: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """An export that was asked for; ``asked_at`` is microseconds, ``trigger`` the id of the event."""

    chain: str
    request: e.ArtifactExportRequested
    asked_at: int
    trigger: bytes


@dataclass(slots=True)
class Desk:
    """The fold. Base models by name and manifest digest, also those that are no longer in the catalogue."""

    waiting: dict[tuple[str, bytes], Order] = field(default_factory=dict)
    bases: dict[tuple[str, bytes], BaseFacts] = field(default_factory=dict)

    def take(self, recorded: Recorded) -> None:
        """Fold one event."""
        match recorded.event:
            case e.ArtifactExportRequested() as event:
                meta = recorded.meta
                order = Order(recorded.chain, event, meta.recorded_at, meta.event_id)
                self.waiting[recorded.chain, event.export_id] = order
            case e.ArtifactExported(export_id=export_id) | e.ArtifactExportFailed(export_id=export_id):
                self.waiting.pop((recorded.chain, export_id), None)
            case e.ModelRegistered() as event:
                facts = BaseFacts(event.architecture, event.dtype, event.source)
                self.bases[event.name, event.manifest_digest] = facts
            case _:
                pass

    def hand_out(self) -> list[Order]:
        """All orders that wait, oldest first; they wait no longer."""
        orders = sorted(self.waiting.values(), key=lambda order: order.asked_at)
        self.waiting.clear()
        return orders
