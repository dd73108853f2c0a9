"""Rules of authority: every event is caused by a command that somebody signed who was allowed to speak by then."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tensorguard.ledger import avro
from tensorguard.ledger.envelope import Envelope, key_id_of
from tensorguard.ledger.errors import MalformedRecordError, RuleBrokenError
from tensorguard.ledger.order_rules import CHAIN_STREAM, OWN_EVENTS
from tensorguard.ledger.record import event_id, position_cause

if TYPE_CHECKING:
    from tensorguard.ledger.envelope import SignedCommand
    from tensorguard.ledger.order_rules import Schemas
    from tensorguard.ledger.record import Record

REJECTED = "CommandRejected"
REJECTIONS_STREAM = "rejections"
FOREIGN_TENANT = "foreign_tenant"
AUTHORITY_EVENTS = {
    "ProducerEnrolled": "EnrolProducer",
    "ProducerRevoked": "RevokeProducer",
    "ApiKeyIssued": "IssueApiKey",
    "ApiKeyRevoked": "RevokeApiKey",
    "SignerKeyPublished": "PublishSignerKey",
    "SignerKeyRotated": "RotateSignerKey",
    "ArtifactKeyPublished": "PublishArtifactKey",
    "ModelRegistered": "RegisterModel",
    "ModelRemoved": "RemoveModel",
    "LedgerMoved": "MoveLedger",
    "LedgerContinued": "ContinueLedger",
}
"""Events that only the authority's own command leads to; they say exactly what that command says."""


@dataclass(frozen=True, slots=True)
class _Cause:
    command_id: bytes
    envelope: Envelope
    closed: bool


class Commands:
    """The producers enrolled so far, the commands seen so far, and the one whose events are being written."""

    def __init__(self, chain: str, authority_key: bytes, schemas: Schemas) -> None:
        self._chain = chain
        self._authority = key_id_of(authority_key)
        self._producers = {self._authority: authority_key}
        self._revoked: set[bytes] = set()
        self._schemas = schemas
        self._seen: set[bytes] = set()
        self._cause: _Cause | None = None
        self._index = 0

    def check(self, record: Record) -> None:
        """Check what led to a record.

        Raises:
            RuleBrokenError: one of the codes of the format's table of checks.
            MalformedRecordError, SignatureInvalidError, ProofInvalidError: the command itself.
        """
        if record.event in OWN_EVENTS:
            self._check_own(record)
            return
        if record.command is None:
            self._follow()
        else:
            self._begin(record, record.command)
        self._check_ids(record)
        if record.event == "ProducerEnrolled":
            self._enrol(record.field("key_id", bytes), record.field("public_key", bytes))
        elif record.event == "ProducerRevoked":
            self._revoked.add(record.field("key_id", bytes))

    def _check_own(self, record: Record) -> None:
        meta = record.meta
        if record.command is not None or meta.cause is not None or meta.stream != CHAIN_STREAM:
            raise RuleBrokenError("wrong_cause", f"{record.event} is the sequencer's own and has no command.")
        if meta.event_id != event_id(position_cause(meta.chain, meta.seq % (1 << 64)), record.event, 0):
            raise RuleBrokenError("wrong_event_id", "An event id is not derived from its position.")

    def _follow(self) -> None:
        if self._cause is None or self._cause.closed:
            raise RuleBrokenError("unsigned_event", "An event follows no signed command.")
        self._index += 1

    def _check_ids(self, record: Record) -> None:
        meta, cause = record.meta, self._cause
        if cause is None or meta.cause != cause.command_id:
            raise RuleBrokenError("wrong_cause", "An event names another cause than the command before it.")
        if meta.event_id != event_id(cause.command_id, record.event, self._index):
            raise RuleBrokenError("wrong_event_id", "An event id is not derived from its cause.")
        if (meta.correlation, meta.trace) != (cause.envelope.correlation, cause.envelope.trace):
            raise RuleBrokenError("wrong_cause", "An event's correlation or trace is not its command's.")
        if self._index and record.event in {*AUTHORITY_EVENTS, REJECTED}:
            raise RuleBrokenError("unsigned_event", f"{record.event} carries no command of its own.")

    def _begin(self, record: Record, command: SignedCommand) -> None:
        self._cause, self._index = None, 0
        envelope = command.envelope()
        if envelope.to_bytes() != command.payload:
            raise MalformedRecordError("A command's envelope is not in its canonical encoding.")
        duplicate = envelope.command_id in self._seen
        self._seen.add(envelope.command_id)
        self._cause = _Cause(envelope.command_id, envelope, closed=record.event == REJECTED)
        if duplicate:
            raise RuleBrokenError("duplicate_command", "A command is decided twice.")
        self._check_producer(command)
        body = self._body(envelope)
        if record.event == REJECTED:
            _check_rejection(record, envelope, self._chain)
        else:
            _check_acceptance(record, envelope, self._chain)
        if record.event in AUTHORITY_EVENTS:
            self._check_authority(record, command, envelope, body)

    def _check_producer(self, command: SignedCommand) -> None:
        public_key = self._producers.get(command.key_id)
        if public_key is None:
            raise RuleBrokenError("unknown_producer", "A command is signed by a key that was not enrolled by then.")
        if command.key_id in self._revoked:
            raise RuleBrokenError("revoked_producer", "A command is signed by a key that was revoked by then.")
        command.verify(public_key)

    def _body(self, envelope: Envelope) -> dict[str, Any]:
        name, text = self._schemas.commands.get(envelope.schema, ("", ""))
        if not text or name != envelope.command_type:
            raise RuleBrokenError(
                "unregistered_schema", "A command's body has a schema that is not registered by then."
            )
        schema = _parsed(text)
        body: dict[str, Any] = avro.decode(schema, envelope.body)
        if avro.encode(schema, body) != envelope.body:
            raise MalformedRecordError("A command's body is not in its canonical encoding.")
        return body

    def _check_authority(
        self, record: Record, command: SignedCommand, envelope: Envelope, body: dict[str, Any]
    ) -> None:
        if command.key_id != self._authority:
            raise RuleBrokenError("not_by_authority", f"{record.event} was not asked for by the authority.")
        if envelope.command_type != AUTHORITY_EVENTS[record.event] or body != record.body:
            raise RuleBrokenError("contradicts_command", f"{record.event} says something else than its command.")

    def _enrol(self, key_id: bytes, public_key: bytes) -> None:
        if key_id_of(public_key) != key_id:
            raise RuleBrokenError("wrong_key_id", "A producer is enrolled under an id that is not its key's.")
        self._producers[key_id] = public_key


def _check_rejection(record: Record, envelope: Envelope, chain: str) -> None:
    said = (record.field("command_id", bytes), record.field("command_type", str), record.field("stream", str))
    if said != (envelope.command_id, envelope.command_type, envelope.stream):
        raise RuleBrokenError("contradicts_command", "A rejection is of another command than the one it carries.")
    tenant_fits = envelope.tenant == chain or record.field("code", str) == FOREIGN_TENANT
    if record.meta.stream != REJECTIONS_STREAM or envelope.chain != chain or not tenant_fits:
        raise RuleBrokenError("wrong_envelope", "A rejected command was signed for another chain or tenant.")


def _check_acceptance(record: Record, envelope: Envelope, chain: str) -> None:
    if (envelope.chain, envelope.tenant, envelope.stream) != (chain, chain, record.meta.stream):
        raise RuleBrokenError("wrong_envelope", "A command was signed for another chain, tenant or stream.")
    if record.meta.recorded_at >= envelope.expires_at:
        raise RuleBrokenError("expired_command", "A command was accepted after it had expired.")


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    return avro.parse(text)
