"""Producers: whose key may sign which commands of a chain. Stream ``producer/<key id hex>``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tensorguard.ledger.envelope import key_id_of

from producers.deciders.context import Context, Decision, Rejected
from schemas.base import Command, Event
from schemas.commands import EnrolProducer, RevokeProducer
from schemas.events import ProducerEnrolled, ProducerRevoked


@dataclass(frozen=True, slots=True)
class ProducerState:
    """An enrolled key. ``hpke_public_key`` is a device's X-Wing key, to which packages are sealed."""

    key_id: bytes
    public_key: bytes
    role: str
    hpke_public_key: bytes | None
    revoked: bool = False


def stream_of_key(key_id: bytes) -> str:
    """The stream of a producer's key."""
    return f"producer/{key_id.hex()}"


def decide(state: ProducerState | None, command: Command, ctx: Context) -> Decision:
    """Enrol or revoke a key."""
    if isinstance(command, EnrolProducer):
        return _enrol(state, command, ctx)
    if isinstance(command, RevokeProducer):
        return _revoke(state, command)
    return Rejected("wrong_stream", "A producer's stream takes EnrolProducer and RevokeProducer only.")


def _enrol(state: ProducerState | None, command: EnrolProducer, ctx: Context) -> Decision:
    if state is not None:
        return Rejected("already_exists", "This key was enrolled before; a revoked key stays revoked.")
    if command.key_id != key_id_of(command.public_key):
        return Rejected("invalid_value", "EnrolProducer.key_id must be the SHA-256 of the public key.")
    if command.key_id == ctx.key_id:
        return Rejected("invalid_value", "The authority's own key takes no other role.")
    if (command.role == "device") != (command.hpke_public_key is not None):
        return Rejected("invalid_value", "EnrolProducer.hpke_public_key belongs to devices, and each device has one.")
    return (ProducerEnrolled(command.key_id, command.public_key, command.role, command.name, command.hpke_public_key),)


def _revoke(state: ProducerState | None, command: RevokeProducer) -> Decision:
    if state is None:
        return Rejected("not_found", "No such producer is enrolled on this chain.")
    if state.revoked:
        return Rejected("already_revoked", "This producer was revoked before.")
    return (ProducerRevoked(command.key_id),)


def evolve(state: ProducerState | None, event: Event) -> ProducerState | None:
    """The state after one more event."""
    match event:
        case ProducerEnrolled():
            return ProducerState(event.key_id, event.public_key, event.role, event.hpke_public_key)
        case ProducerRevoked() if state:
            return replace(state, revoked=True)
        case _:
            return state
