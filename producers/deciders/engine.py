"""From the bytes of a signed command to a verdict: the one path that the sequencer and the auditor share.

For each command, in order::

    presented = present(data)                                        # MalformedRecordError -> refused, code "malformed"
    identity = authenticate(presented, chain, authority_key, find)   # None -> refused, code "unauthenticated"
    verdict = judge(presented, identity, chain=chain, now=now, find=find, version_of=version_of)

``find(stream)`` gives the state of a stream of this chain (None if it has no events); ``version_of(stream)`` the number
of events in it. ``now`` is the ``recorded_at`` that every record of this verdict must then carry. An ``Accepted`` names
the stream and its events: seal them in order, then ``registry.evolve`` the stream's state with each before the next
command is judged. A ``Rejected`` becomes one ``CommandRejected`` (see :func:`rejection_event`) in the stream
``rejections``. A command id that was decided before must be answered from its reply and never judged again.

The first command of a chain is judged after its ``ChainOpened`` has been folded; :func:`opens_chain` says whether a
command may open one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tensorguard.ledger.envelope import Envelope, SignedCommand, key_id_of
from tensorguard.ledger.errors import LedgerError, MalformedRecordError

from producers.deciders import registry
from producers.deciders.api_key import ApiKeyState
from producers.deciders.context import LIMITS, Context, Rejected
from producers.deciders.ledger import STREAM as LEDGER_STREAM
from producers.deciders.ledger import moved_to
from producers.deciders.producer import ProducerState, stream_of_key
from producers.deciders.values import invalid_value
from schemas import codec
from schemas.base import Command, Event
from schemas.commands import ContinueLedger, EnrolProducer
from schemas.events import CommandRejected

Find = Callable[[str], object | None]
VersionOf = Callable[[str], int]
_CHAIN_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Presented:
    """A signed command, decoded; not yet believed. ``data`` is its encoding, where that was at hand."""

    signed: SignedCommand
    envelope: Envelope
    command: Command
    data: bytes | None = field(default=None, repr=False)

    def encoded(self) -> bytes:
        """The signed command as it travels through the intake."""
        return self.signed.to_bytes() if self.data is None else self.data


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose signature a command bears."""

    role: str
    key_id: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The events that a command leads to, all in one stream; never empty."""

    stream: str
    events: tuple[Event, ...]


Verdict = Accepted | Rejected


def present(data: bytes) -> Presented:
    """Decode what came through the intake.

    Raises:
        MalformedRecordError: no signed command, no envelope, a type or schema this build does not know, a body that
            does not fit it, bytes that are not the one encoding of what they say, or too many of them for a record.
    """
    return present_signed(SignedCommand.from_canonical(data), data)


def present_signed(signed: SignedCommand, data: bytes | None = None) -> Presented:
    """Decode a signed command, e.g. one found in a record; see :func:`present`."""
    if len(signed.payload) > LIMITS.payload_bytes:
        raise MalformedRecordError(f"A command of {len(signed.payload)} bytes fits into no record.")
    envelope = Envelope.from_canonical(signed.payload)
    if len(envelope.stream.encode()) > LIMITS.stream_bytes:
        raise MalformedRecordError("No stream has so long a name.")
    command = codec.decode_command(envelope.command_type, envelope.schema, envelope.body)
    return Presented(signed, envelope, command, data)


def is_chain_name(name: str) -> bool:
    """Whether a chain may be called so: 1 to 63 lower-case letters, digits, dashes; no dash at the start."""
    return _CHAIN_NAME.fullmatch(name) is not None


def opens_chain(presented: Presented, authority_key: bytes) -> bool:
    """Whether this command may open the chain that it names: an EnrolProducer under the authority's signature."""
    return (
        isinstance(presented.command, EnrolProducer)
        and is_chain_name(presented.envelope.chain)
        and presented.envelope.tenant == presented.envelope.chain
        and _verifies(presented.signed, authority_key)
    )


def authenticate(presented: Presented, chain: str, authority_key: bytes, find: Find) -> Identity | None:
    """Whose key signed a command for this chain: its authority's, or an enrolled one that is not revoked. Else None."""
    signed = presented.signed
    if presented.envelope.chain != chain:
        return None
    if signed.key_id == key_id_of(authority_key):
        return Identity("authority", signed.key_id) if _verifies(signed, authority_key) else None
    producer = find(stream_of_key(signed.key_id))
    if not isinstance(producer, ProducerState) or producer.revoked or not _verifies(signed, producer.public_key):
        return None
    return Identity(producer.role, signed.key_id)


def _verifies(signed: SignedCommand, public_key: bytes) -> bool:
    try:
        signed.verify(public_key)
    except LedgerError:
        return False
    return True


def judge(
    presented: Presented, identity: Identity, *, chain: str, now: int, find: Find, version_of: VersionOf
) -> Verdict:
    """The decision on an authenticated command. Pure: the same chain before it and the same ``now`` give the same."""
    envelope, command = presented.envelope, presented.command
    stream = registry.stream_of(command)
    refusal = admit(presented, identity, chain=chain, now=now, find=find, version=version_of(stream))
    if refusal:
        return refusal
    ctx = Context(now, chain, envelope.command_id, identity.role, identity.key_id, stream, envelope.on_behalf_of, find)
    decision = registry.decide(find(stream), command, ctx)
    return decision if isinstance(decision, Rejected) else Accepted(stream, decision)


def admit(
    presented: Presented, identity: Identity, *, chain: str, now: int, find: Find, version: int
) -> Rejected | None:
    """The checks that every command must pass before its decider sees it; ``version`` is that of its stream."""
    envelope, command = presented.envelope, presented.command
    if envelope.tenant != chain:
        return Rejected("foreign_tenant", "The command speaks for another tenant than the chain's.")
    return (
        _ended(command, find)
        or _forbidden(envelope, identity, find)
        or _misplaced(envelope, command, chain)
        or _out_of_time(envelope, now)
        or _version_conflict(envelope, version)
        or _oversized(envelope)
        or invalid_value(command)
    )


def _forbidden(envelope: Envelope, identity: Identity, find: Find) -> Rejected | None:
    if identity.role not in registry.AUTHORITY[envelope.command_type]:
        return Rejected("forbidden", f"A {identity.role} may not sign {envelope.command_type}.")
    if envelope.on_behalf_of is None:
        return None
    if identity.role != "gateway":
        return Rejected("forbidden", "Only a gateway speaks on behalf of an API key.")
    api_key = find(f"api-key/{envelope.on_behalf_of}")
    if not isinstance(api_key, ApiKeyState) or api_key.revoked:
        return Rejected("forbidden", "The API key was never issued on this chain, or is revoked.")
    return None


def _ended(command: Command, find: Find) -> Rejected | None:
    ledger = moved_to(find(LEDGER_STREAM))
    if ledger is None or isinstance(command, ContinueLedger):
        return None
    return Rejected("ledger_moved", "The chain ends here; it goes on in another ledger.")


def _misplaced(envelope: Envelope, command: Command, chain: str) -> Rejected | None:
    if not registry.belongs_on(command, chain):
        return Rejected("wrong_stream", f"{envelope.command_type} has no place on this chain.")
    if envelope.stream != registry.stream_of(command):
        return Rejected("wrong_stream", f"{envelope.command_type} is addressed to another stream than its own.")
    return None


def _out_of_time(envelope: Envelope, now: int) -> Rejected | None:
    if envelope.expires_at <= now or envelope.expires_at <= envelope.issued_at:
        return Rejected("expired", "The command's time is over; sign it again.")
    if envelope.issued_at > now + LIMITS.clock_skew:
        return Rejected("expired", "The command was issued in the future; set the producer's clock.")
    return None


def _version_conflict(envelope: Envelope, version: int) -> Rejected | None:
    if envelope.expected_version in (None, version):
        return None
    return Rejected("version_conflict", f"The stream has {version} events; the command expected another number.")


def _oversized(envelope: Envelope) -> Rejected | None:
    if len(envelope.body) <= LIMITS.body_bytes:
        return None
    return Rejected("invalid_value", f"A command's body may have {LIMITS.body_bytes} bytes.")


def rejection_event(envelope: Envelope, rejected: Rejected) -> CommandRejected:
    """What stands in the stream ``rejections`` for a refused command."""
    return CommandRejected(envelope.command_id, envelope.command_type, envelope.stream, rejected.code, rejected.detail)
