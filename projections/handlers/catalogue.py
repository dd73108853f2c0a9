"""Models that runs may start from."""

from __future__ import annotations

from producers.feed import Recorded
from projections.handlers.registry import Handlers, View
from projections.models import CatalogueModel, KnownModel
from schemas import events

HANDLERS = Handlers()


@HANDLERS.on(events.ModelRegistered)
def model_registered(view: View, at: Recorded, event: events.ModelRegistered) -> None:
    """A model is in the catalogue; registering its name again replaces what the name means for later runs."""
    view.session.merge(
        CatalogueModel(
            chain=at.chain,
            name=event.name,
            architecture=event.architecture,
            files=[{"path": f.path, "sha256": f.sha256.hex(), "size_bytes": f.size_bytes} for f in event.files],
            manifest_digest=event.manifest_digest.hex(),
            tokenizer_digest=event.tokenizer_digest.hex(),
            vocabulary_size=event.vocabulary_size,
            max_positions=event.max_positions,
            parameters=event.parameters,
            dtype=event.dtype,
            source=event.source,
            has_chat_template=event.has_chat_template,
            seq=at.seq,
            registered_at=at.meta.recorded_at,
        )
    )
    view.session.merge(
        KnownModel(
            chain=at.chain,
            manifest_digest=event.manifest_digest.hex(),
            architecture=event.architecture,
            vocabulary_size=event.vocabulary_size,
            max_positions=event.max_positions,
            has_chat_template=event.has_chat_template,
        )
    )


@HANDLERS.on(events.ModelRemoved)
def model_removed(view: View, at: Recorded, event: events.ModelRemoved) -> None:
    """The name is free; what the model was like stays known to the runs on it."""
    row = view.session.get(CatalogueModel, (at.chain, event.name))
    if row is not None:
        view.session.delete(row)
