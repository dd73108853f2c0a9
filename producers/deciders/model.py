"""Catalogue models. Stream ``model/<name>`` of the platform chain."""

from __future__ import annotations

from dataclasses import dataclass, fields

from producers.deciders.context import Context, Decision, Rejected
from schemas.base import Command, Event
from schemas.commands import RegisterModel
from schemas.events import ModelRegistered


@dataclass(frozen=True, slots=True)
class ModelState:
    """A registered model; a name is never given to other files."""

    name: str
    manifest_digest: bytes


def decide(state: ModelState | None, command: Command, _ctx: Context) -> Decision:
    """Register a model under a name that is free."""
    if not isinstance(command, RegisterModel):
        return Rejected("wrong_stream", "A model's stream takes RegisterModel only.")
    if state is not None:
        return Rejected("already_exists", "A model of this name is registered; take another name.")
    return (ModelRegistered(**{f.name: getattr(command, f.name) for f in fields(command)}),)


def evolve(state: ModelState | None, event: Event) -> ModelState | None:
    """The state after one more event."""
    if isinstance(event, ModelRegistered):
        return ModelState(event.name, event.manifest_digest)
    return state
