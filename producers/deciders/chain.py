"""The ``chain`` stream: the sequencer's own records. Nothing is decided here, only folded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.base import Event
from schemas.events import ChainOpened, EpochOpened, SchemaRegistered


@dataclass(frozen=True, slots=True)
class ChainState:
    """How a chain started, who may open it to others, its writer's epoch, and the schemas it may use."""

    origin: str
    authority_key: bytes
    epoch: int = 0
    schemas: tuple[bytes, ...] = ()


def evolve(state: ChainState | None, event: Event) -> ChainState | None:
    """The state after one more record of the sequencer's own."""
    match event:
        case ChainOpened():
            return ChainState(event.origin, event.authority_key)
        case SchemaRegistered() if state and event.schema not in state.schemas:
            return replace(state, schemas=(*state.schemas, event.schema))
        case EpochOpened() if state:
            return replace(state, epoch=event.epoch)
        case _:
            return state
