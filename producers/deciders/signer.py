"""The ledger signer's public keys. Stream ``signer`` of the platform chain."""

from __future__ import annotations

from dataclasses import dataclass

from producers.deciders.context import Context, Decision, Rejected
from schemas.base import Command, Event
from schemas.commands import PublishSignerKey, RotateSignerKey
from schemas.events import SignerKeyPublished, SignerKeyRotated


@dataclass(frozen=True, slots=True)
class SignerState:
    """The Ed25519 key in use, and those before it, which never come back."""

    current: bytes
    retired: tuple[bytes, ...] = ()


def decide(state: SignerState | None, command: Command, _ctx: Context) -> Decision:
    """Publish the first keys, or the next ones."""
    if isinstance(command, PublishSignerKey):
        return _publish(state, command)
    if isinstance(command, RotateSignerKey):
        return _rotate(state, command)
    return Rejected("wrong_stream", "The signer's stream takes PublishSignerKey and RotateSignerKey only.")


def _publish(state: SignerState | None, command: PublishSignerKey) -> Decision:
    if state is not None:
        return Rejected("already_exists", "The signer's first keys are published; rotate them instead.")
    return (SignerKeyPublished(command.ed25519_key, command.mldsa44_key),)


def _rotate(state: SignerState | None, command: RotateSignerKey) -> Decision:
    if state is None:
        return Rejected("not_found", "The signer has no published keys to rotate.")
    if command.previous_ed25519_key != state.current:
        return Rejected("version_conflict", "RotateSignerKey names another previous key than the one in use.")
    if command.ed25519_key in (state.current, *state.retired):
        return Rejected("already_exists", "The signer had this key before; a rotation needs a new one.")
    return (SignerKeyRotated(command.previous_ed25519_key, command.ed25519_key, command.mldsa44_key),)


def evolve(state: SignerState | None, event: Event) -> SignerState | None:
    """The state after one more event."""
    match event:
        case SignerKeyPublished():
            return SignerState(event.ed25519_key)
        case SignerKeyRotated() if state:
            return SignerState(event.ed25519_key, (*state.retired, state.current))
        case _:
            return state
