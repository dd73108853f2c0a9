"""Records: the bytes of one ledger entry, and the event ids that make outcomes idempotent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from tensorguard.ledger import avro
from tensorguard.ledger import format as fmt
from tensorguard.ledger.envelope import SignedCommand
from tensorguard.ledger.errors import MalformedRecordError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")
GENESIS_PREV_HASH = bytes(32)
_PREV_HASH_BYTES = _SCHEMA_BYTES = 32
_ID_BYTES = 16
_NULL, _NOT_NULL = 0, 2
_MORE = 0x80
_META = avro.parse(fmt.compact(fmt.META))
_NO_COMMAND, _COMMAND = b"\x00", b"\x02"
"""Which branch of its union a record's command is: null, or a signed command."""


@dataclass(frozen=True, slots=True)
class Meta:
    """The fields every record starts with. ``recorded_at`` is microseconds since the epoch; ids are 16 bytes."""

    prev_hash: bytes
    chain: str
    seq: int
    epoch: int
    schema: bytes
    event_id: bytes
    stream: str
    stream_seq: int
    recorded_at: int
    cause: bytes | None
    correlation: bytes | None
    trace: bytes | None

    def to_dict(self) -> dict[str, Any]:
        """The value of a record's ``meta`` field."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Record:
    """A decoded record; ``event`` is the body's type name, ``body`` its fields."""

    meta: Meta
    command: SignedCommand | None
    event: str
    body: dict[str, Any]

    def field(self, name: str, kind: type[T]) -> T:
        """A field of the body that the reader relies on: an event's schema is whatever its chain registered.

        Raises:
            MalformedRecordError: the body has no such field of this Python type.
        """
        value = self.body.get(name)
        if not isinstance(value, kind):
            raise MalformedRecordError(f"{self.event} has no {kind.__name__} field {name!r}.")
        return value


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    return avro.parse(text)


def encode_record(schema_text: str, meta: Meta, command: SignedCommand | None, body: Mapping[str, Any]) -> bytes:
    """A record's bytes by the exact writer schema text.

    Raises:
        MalformedRecordError: the body does not fit, ``meta.schema`` names another text, or it is over 65,535 bytes.
    """
    if fmt.schema_digest(schema_text) != meta.schema:
        raise MalformedRecordError("A record names another schema than the one it is written with.")
    value = {"meta": meta.to_dict(), "command": command.to_dict() if command else None, "body": dict(body)}
    return _sized(avro.encode(_parsed(schema_text), value))


def compose_record(schema_text: str, meta: Meta, command: bytes | None, body: Mapping[str, Any]) -> bytes:
    """The bytes that :func:`encode_record` gives, from a signed command that is encoded already: half the work.

    Raises:
        MalformedRecordError: as there; or the text is not composed of meta, command and body.
    """
    digest, parsed = _composed(schema_text)
    if digest != meta.schema:
        raise MalformedRecordError("A record names another schema than the one it is written with.")
    signed = _NO_COMMAND if command is None else _COMMAND + command
    return _sized(avro.encode(_META, meta.to_dict()) + signed + avro.encode(parsed, body))


@lru_cache(maxsize=1024)
def _composed(text: str) -> tuple[bytes, Any]:
    """The digest of a record's schema, and the schema of its body alone."""
    types = avro.parse_fields(text)
    if text != fmt.record_schema_text(json.loads(text)["fields"][-1]["type"]):
        raise MalformedRecordError("A record's schema is not composed of meta, command and body.")
    return fmt.schema_digest(text), types["body"]


def _sized(data: bytes) -> bytes:
    if len(data) > fmt.MAX_RECORD_BYTES:
        raise MalformedRecordError(f"A record of {len(data)} bytes is over the limit of {fmt.MAX_RECORD_BYTES}.")
    return data


def decode_meta(data: bytes) -> Meta:
    """Only the meta of a record: it needs no schema of the chain.

    Raises:
        MalformedRecordError: the bytes do not start with a meta.
    """
    return Meta(**avro.decode(_META, data, prefix=True))


def decode_cause(data: bytes) -> bytes | None:
    """Only the command that a record names as its cause: several times faster than its meta.

    Raises:
        MalformedRecordError: the bytes do not start with a meta.
    """
    try:
        at = _behind_text(data, _PREV_HASH_BYTES)
        at = _behind_number(data, _behind_number(data, at)) + _SCHEMA_BYTES + _ID_BYTES
        at = _behind_text(data, at)
        at = _behind_number(data, _behind_number(data, at))
        kind, cause = data[at], data[at + 1 : at + 1 + _ID_BYTES]
    except IndexError:
        kind, cause = -1, b""
    if kind == _NULL:
        return None
    if kind != _NOT_NULL or len(cause) != _ID_BYTES:
        raise MalformedRecordError("Bytes do not start with a record's meta.")
    return cause


def named_schema(data: bytes) -> bytes:
    """Only the digest of the schema that a record names: a tenth of the time of its meta.

    Of anything that is no record it gives bytes that name no schema.
    """
    try:
        at = _behind_number(data, _behind_number(data, _behind_text(data, _PREV_HASH_BYTES)))
    except IndexError:
        return b""
    return data[at : at + _SCHEMA_BYTES]


def _behind_number(data: bytes, at: int) -> int:
    while data[at] & _MORE:
        at += 1
    return at + 1


def _behind_text(data: bytes, at: int) -> int:
    size, shift = 0, 0
    while (byte := data[at]) & _MORE:
        size |= (byte & ~_MORE) << shift
        if size >> 1 > len(data):  # A long row of such bytes would cost its square.
            raise IndexError
        at, shift = at + 1, shift + 7
    return at + 1 + ((size | byte << shift) >> 1)


def decode_record(data: bytes, schemas: Mapping[bytes, str]) -> Record:
    """A whole record; ``schemas`` maps the digests registered so far to their texts (the three fixed ones need none).

    Raises:
        MalformedRecordError: unknown schema, or bytes that do not fit it.
    """
    digest = named_schema(data)
    text = schemas.get(digest) or fmt.BOOTSTRAP.get(digest, ("", ""))[1]
    if not text:
        meta = decode_meta(data)
        raise MalformedRecordError(f"Record {meta.seq} of {meta.chain!r} uses a schema that is not registered.")
    schema = _parsed(text)
    value = avro.decode(schema, data)
    try:
        if value["meta"]["schema"] != digest:
            raise MalformedRecordError("A record's meta is not in the one encoding of its values.")
        command = SignedCommand.from_dict(value["command"]) if value["command"] else None
        return Record(Meta(**value["meta"]), command, schema["name"].rpartition(".")[2], value["body"])
    except (KeyError, TypeError) as error:
        raise MalformedRecordError("A record's schema is not composed of meta, command and body.") from error


def position_cause(chain: str, seq: int) -> bytes:
    """What stands for the cause in the event id of the sequencer's own records, which no command led to (16 bytes).

    SHA-256("chain" 00 || chain || uint64 seq), cut to 16 bytes. The record's ``cause`` field itself stays null.
    """
    return sha256(b"chain\x00" + chain.encode() + seq.to_bytes(8, "big")).digest()[:16]


def event_id(cause: bytes, event: str, index: int) -> bytes:
    """The id of the index-th event that a command (or, for the sequencer's own records, a chain position) led to.

    SHA-256("tensorguard/event/v1" 00 || cause || event name || uint32 index), cut to 16 bytes.
    """
    material = b"tensorguard/event/v1\x00" + cause + event.encode() + index.to_bytes(4, "big")
    return sha256(material).digest()[:16]


def outcome_id(trigger: bytes, kind: str) -> bytes:
    """The command id of a processor's outcome: the same trigger and kind always give the same id (16 bytes)."""
    return sha256(b"tensorguard/outcome/v1\x00" + trigger + kind.encode()).digest()[:16]
