"""Catalogue models. Stream ``model/<name>`` of the platform chain."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from producers.deciders.context import Context, Decision, Rejected
from schemas.base import Command, Event
from schemas.commands import RegisterModel, RemoveModel
from schemas.events import ModelRegistered, ModelRemoved


@dataclass(frozen=True, slots=True)
class ModelState:
    """A registered model, or one that was; a name is given to other files only after its removal."""

    name: str
    manifest_digest: bytes
    removed: bool = False


def decide(state: ModelState | None, command: Command, _ctx: Context) -> Decision:
    """Register a model under a name that is free, or free a name."""
    if isinstance(command, RegisterModel):
        return _register(state, command)
    if isinstance(command, RemoveModel):
        return _remove(state, command)
    return Rejected("wrong_stream", "A model's stream takes commands about models only.")


def _register(state: ModelState | None, command: RegisterModel) -> Decision:
    if state is not None and not state.removed:
        return Rejected("already_exists", "A model of this name is registered; remove it first, or take another name.")
    return (ModelRegistered(**{f.name: getattr(command, f.name) for f in fields(command)}),)


def _remove(state: ModelState | None, command: RemoveModel) -> Decision:
    if state is None or state.removed:
        return Rejected("not_found", "No model of this name is registered.")
    if command.manifest_digest != state.manifest_digest:
        return Rejected("invalid_value", "Other files are registered under this name.")
    return (ModelRemoved(command.name, command.manifest_digest),)


def evolve(state: ModelState | None, event: Event) -> ModelState | None:
    """The state after one more event."""
    if isinstance(event, ModelRegistered):
        return ModelState(event.name, event.manifest_digest)
    if isinstance(event, ModelRemoved) and state is not None:
        return replace(state, removed=True)
    return state
