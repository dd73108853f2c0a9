"""What the exporter knows from the ledger: exports that wait, and what base models are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from processors import workshop
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


Order: TypeAlias = workshop.Order[e.ArtifactExportRequested]
"""An export that was asked for."""


@dataclass(slots=True)
class Desk(workshop.Desk[e.ArtifactExportRequested]):
    """The fold. Base models by name and manifest digest, also those that are no longer in the catalogue."""

    bases: dict[tuple[str, bytes], BaseFacts] = field(default_factory=dict)

    def take(self, recorded: Recorded) -> None:
        """Fold one event."""
        match recorded.event:
            case e.ArtifactExportRequested() as event:
                self.ask(recorded, event.export_id, event)
            case e.ArtifactExported(export_id=export_id) | e.ArtifactExportFailed(export_id=export_id):
                self.finish(recorded, export_id)
            case e.ModelRegistered() as event:
                facts = BaseFacts(event.architecture, event.dtype, event.source)
                self.bases[event.name, event.manifest_digest] = facts
            case _:
                pass
