"""What stands in the topics beside the ledger's records, in Avro.

``replies`` holds one message or a few for each commit: what it decided, and how large it left its chains. ``writers``
(compacted) holds where the writer of a partition and each of its chains stand. Both are written in the commit's own
transaction. ``dead-letters`` holds commands that could not be decided; ``checkpoints`` (compacted) the signed notes,
and where the newest snapshot of a chain lies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tensorguard.ledger import avro

from producers.engines.port import Append, Commit, Quarantined, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WRITER_KEY = b"writer"
_CHAIN_KEY, _SNAPSHOT_KEY = b"chain/", b"snapshot/"
_MESSAGE_REPLIES, _MESSAGE_BYTES = 1024, 512 << 10
_REPLY_BYTES, _CHARACTER_BYTES = 128, 4
"""What a reply takes at most: beside its texts, and for each character of them."""


def _schema(name: str, *fields: tuple[str, Any]) -> dict[str, Any]:
    return {
        "type": "record",
        "name": f"tensorguard.kafka.{name}",
        "fields": [{"name": field, "type": kind} for field, kind in fields],
    }


def _parsed(schema: dict[str, Any]) -> Any:
    return avro.parse(json.dumps(schema))


_OPTIONAL_LONG = ["null", "long"]
_REPLY = _schema(
    "Reply",
    ("command_id", "bytes"),
    ("outcome", "string"),
    ("chain", "string"),
    ("first_seq", _OPTIONAL_LONG),
    ("last_seq", _OPTIONAL_LONG),
    ("code", "string"),
    ("detail", "string"),
    ("body_digest", "bytes"),
)
_GROWN = _schema("Grown", ("chain", "string"), ("size", "long"), ("last", "bytes"))
_DECIDED = _parsed(
    _schema(
        "Decided",
        ("epoch", "long"),
        ("position", _OPTIONAL_LONG),
        ("grown", {"type": "array", "items": _GROWN}),
        ("replies", {"type": "array", "items": _REPLY}),
    )
)
_DECIDED_BY = _parsed(_schema("Decided", ("epoch", "long"), ("position", _OPTIONAL_LONG)))
_WRITER = _parsed(_schema("Writer", ("epoch", "long"), ("position", "long")))
_HEAD = _parsed(_schema("Head", ("size", "long"), ("seq", "long"), ("offset", "long"), ("last", "bytes")))
_DEAD_LETTER = _parsed(
    _schema("DeadLetter", ("position", "long"), ("reason", "string"), ("at", "long"), ("data", "bytes"))
)
_STORED = _parsed(
    _schema(
        "Stored",
        ("size", "long"),
        ("digest", "bytes"),
        ("id", "bytes"),
        ("slot", "int"),
        ("offset", "long"),
        ("parts", "int"),
    )
)
_REPLY_FIELDS = tuple(field["name"] for field in _REPLY["fields"])


@dataclass(frozen=True, slots=True)
class Tip:
    """How large a chain is, and the SHA-256 of its last record; empty where that is not known."""

    size: int
    last: bytes = b""


@dataclass(frozen=True, slots=True)
class Decided:
    """What a commit did, or a part of it: chains that grew, and replies."""

    epoch: int
    position: int | None
    grown: dict[str, Tip]
    replies: tuple[Reply, ...]


@dataclass(frozen=True, slots=True)
class WriterState:
    """Where the writer of a partition stands."""

    epoch: int
    position: int


@dataclass(frozen=True, slots=True)
class Head:
    """How large a chain is, and a place in its topic from where its end is near: the record ``seq`` at ``offset``.

    ``last``: the SHA-256 of its last record; empty where that is not known.
    """

    size: int
    seq: int
    offset: int
    last: bytes = b""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a snapshot lies: ``parts`` messages from ``offset`` on, all of one ``id``, in one of two slots."""

    size: int
    digest: bytes
    id: bytes
    slot: int
    offset: int
    parts: int


def tip_of(append: Append) -> Tip:
    """Where an append leaves its chain."""
    size = append.expected_size + len(append.records)
    return Tip(size, sha256(append.records[-1]).digest() if append.records else b"")


def encode_commit(commit: Commit) -> Iterator[bytes]:
    """The messages of ``replies`` about a commit; the first says how far its chains have grown."""
    tips = {append.chain: tip_of(append) for append in commit.appends}
    grown = [{"chain": chain, "size": tip.size, "last": tip.last} for chain, tip in tips.items()]
    for part in _parts(commit.replies):
        replies = [{name: getattr(reply, name) for name in _REPLY_FIELDS} for reply in part]
        value = {"epoch": commit.epoch, "position": commit.intake_position, "grown": grown, "replies": replies}
        yield avro.encode(_DECIDED, value)
        grown = []


def _parts(replies: Sequence[Reply]) -> Iterator[list[Reply]]:
    """Replies as they go into messages, of which no broker takes one of over a megabyte; at least one part."""
    part: list[Reply] = []
    held = 0
    for reply in replies:
        size = _REPLY_BYTES + _CHARACTER_BYTES * (len(reply.chain) + len(reply.code) + len(reply.detail))
        if part and (len(part) == _MESSAGE_REPLIES or held + size > _MESSAGE_BYTES):
            yield part
            part, held = [], 0
        part.append(reply)
        held += size
    yield part


def decode_decided(data: bytes) -> Decided:
    """One message of ``replies``."""
    value = avro.decode(_DECIDED, data)
    grown = {each["chain"]: Tip(each["size"], each["last"]) for each in value["grown"]}
    return Decided(value["epoch"], value["position"], grown, tuple(Reply(**reply) for reply in value["replies"]))


def decided_by(data: bytes) -> WriterState | None:
    """Where the writer of a message of ``replies`` stood, without reading further; None if it does not say."""
    value = avro.decode(_DECIDED_BY, data, prefix=True)
    return None if value["position"] is None else WriterState(value["epoch"], value["position"])


def encode_writer(state: WriterState) -> bytes:
    """The value under ``WRITER_KEY``."""
    return avro.encode(_WRITER, {"epoch": state.epoch, "position": state.position})


def decode_writer(data: bytes) -> WriterState:
    """The value under ``WRITER_KEY``."""
    return WriterState(**avro.decode(_WRITER, data))


def chain_key(chain: str) -> bytes:
    """The key of a chain's head."""
    return _CHAIN_KEY + chain.encode()


def chain_of(key: bytes) -> str | None:
    """The chain that a key of ``writers`` speaks of."""
    return key[len(_CHAIN_KEY) :].decode() if key.startswith(_CHAIN_KEY) else None


def encode_head(head: Head) -> bytes:
    """The value under a chain's key."""
    return avro.encode(_HEAD, {"size": head.size, "seq": head.seq, "offset": head.offset, "last": head.last})


def decode_head(data: bytes) -> Head:
    """The value under a chain's key."""
    return Head(**avro.decode(_HEAD, data))


def encode_dead_letter(letter: Quarantined, data: bytes) -> bytes:
    """A message of ``dead-letters``; ``data`` is the command's bytes as they were taken in."""
    return avro.encode(
        _DEAD_LETTER, {"position": letter.position, "reason": letter.reason, "at": letter.at, "data": data}
    )


def decode_dead_letter(data: bytes) -> tuple[Quarantined, bytes]:
    """A message of ``dead-letters``."""
    value = avro.decode(_DEAD_LETTER, data)
    return Quarantined(value["position"], value["reason"], value["at"]), value["data"]


def snapshot_key(chain: str) -> bytes:
    """The key in ``checkpoints`` of where a chain's snapshot lies."""
    return _SNAPSHOT_KEY + chain.encode()


def snapshot_of(key: bytes) -> str | None:
    """The chain whose snapshot a key of ``checkpoints`` speaks of."""
    return key[len(_SNAPSHOT_KEY) :].decode() if key.startswith(_SNAPSHOT_KEY) else None


def encode_stored(stored: Stored) -> bytes:
    """The value under a snapshot's key."""
    return avro.encode(_STORED, {name: getattr(stored, name) for name in Stored.__slots__})


def decode_stored(data: bytes) -> Stored:
    """The value under a snapshot's key."""
    return Stored(**avro.decode(_STORED, data))
