"""Composite keys that sign checkpoints and packages. Stream ``artifact-key/<key id hex>`` of the platform chain."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from producers.deciders.context import Context, Decision, Rejected
from schemas.base import Command, Event
from schemas.commands import PublishArtifactKey
from schemas.events import ArtifactKeyPublished


@dataclass(frozen=True, slots=True)
class ArtifactKeyState:
    """A published key."""

    key_id: bytes


def decide(state: ArtifactKeyState | None, command: Command, _ctx: Context) -> Decision:
    """Publish a key once."""
    if not isinstance(command, PublishArtifactKey):
        return Rejected("wrong_stream", "An artifact key's stream takes PublishArtifactKey only.")
    if state is not None:
        return Rejected("already_exists", "This artifact key is published.")
    if command.key_id != sha256(command.public_key).digest():
        return Rejected("invalid_value", "PublishArtifactKey.key_id must be the SHA-256 of the public key.")
    return (ArtifactKeyPublished(command.key_id, command.public_key),)


def evolve(state: ArtifactKeyState | None, event: Event) -> ArtifactKeyState | None:
    """The state after one more event."""
    if isinstance(event, ArtifactKeyPublished):
        return ArtifactKeyState(event.key_id)
    return state
