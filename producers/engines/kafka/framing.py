"""What stands before a record in a Kafka message, so that any Avro reader finds its schema. No hash covers it.

Without a schema registry: Avro's single-object encoding, ``C3 01 || fingerprint || record``, where the fingerprint is
the CRC-64-AVRO of the writer schema's parsing canonical form, 8 bytes, little endian (Apache Avro 1.11, "Single-object
encoding"). With one: Confluent's wire format, ``00 || uint32 id || record``. Reading takes either, without a registry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from fastavro.schema import fingerprint, to_parsing_canonical_form
from tensorguard.ledger import avro
from tensorguard.ledger import format as fmt
from tensorguard.ledger.record import Meta, decode_meta, decode_record, named_schema

from producers.engines.errors import EngineError, LedgerDamagedError
from schemas.codec import EVENTS, event_schema
from schemas.events import SchemaRegistered

SINGLE_OBJECT, CONFLUENT = b"\xc3\x01", b"\x00"
MAX_ID = 2**31 - 1
_FINGERPRINT_BYTES, _ID_BYTES = 8, 4
_REGISTERED = event_schema(SchemaRegistered.__name__).digest


class MalformedFrameError(LedgerDamagedError):
    """A message of a ledger topic is no framed record."""

    code = "malformed_frame"
    next_step = (
        "Somebody other than a sequencer wrote into a ledger's topic: stop the servers, see who may write there, and "
        "compare the ledger with an exported checkpoint by `tensorguard audit verify`."
    )


class UnknownWriterSchemaError(EngineError):
    """A record's writer schema is known neither to this build nor to the record's chain."""

    code = "unknown_writer_schema"
    next_step = "Verify the ledger that it comes from by `tensorguard audit verify`; nothing was written."


class SchemaIds(Protocol):
    """A registry of schemas, as a writer needs it."""

    def ids_of(self, texts: Sequence[str]) -> list[int]:
        """The ids of schema texts, each from 1 to ``MAX_ID``; what is not registered yet is from now on.

        Raises:
            EngineError: it does not answer, or refuses a schema.
        """


def _nothing(_: str) -> Iterable[bytes]:
    return ()


class Framer:
    """Records in their frames, and out of them.

    ``ids`` is the registry, if one is configured. ``written`` gives a chain's committed records: they are read when a
    record comes whose schema this build does not have, such as one of a ledger that an older build wrote.
    """

    def __init__(self, ids: SchemaIds | None = None, written: Callable[[str], Iterable[bytes]] = _nothing) -> None:
        self._ids = ids
        self._written = written
        self._texts = {schema.digest: schema.text for schema in map(event_schema, EVENTS)}
        self._heads: dict[bytes, bytes] = {}

    def prepare(self) -> None:
        """Learn the frames of all records that this build writes: what a writer does first.

        A registry that is away, or that refuses one of the schemas, so stops a writer from starting and never one that
        runs.

        Raises:
            EngineError: the registry does not answer, or refuses a schema.
        """
        self._learn_heads(tuple(self._texts))

    def frame(self, record: bytes) -> bytes:
        """A record in its frame.

        Raises:
            MalformedRecordError: the bytes do not begin as a record does.
            UnknownWriterSchemaError: nobody knows its writer schema.
            EngineError: the schema is a new one, and the registry does not answer or refuses it.
        """
        digest = named_schema(record)
        if digest == _REGISTERED:
            self._take(record)
        return (self._heads.get(digest) or self._new_head(decode_meta(record))) + record

    @staticmethod
    def record(framed: bytes | None) -> bytes:
        """The record of a message.

        Raises:
            MalformedFrameError: it is in neither of the two frames, or its record has no size that a record may have.
        """
        if framed is None:
            raise MalformedFrameError("A ledger's topic holds a message without a value.")
        record = framed[_head_size(framed) :]
        if not 0 < len(record) <= fmt.MAX_RECORD_BYTES:
            raise MalformedFrameError(f"A frame holds {len(record)} bytes: a record has 1 to {fmt.MAX_RECORD_BYTES}.")
        return record

    def _new_head(self, meta: Meta) -> bytes:
        if meta.schema not in self._texts:
            self._look_back(meta)
        if meta.schema not in self._heads:
            self._learn_heads((meta.schema,))
        return self._heads[meta.schema]

    def _look_back(self, meta: Meta) -> None:
        """Collect the schemas that a chain has registered: another build wrote it."""
        for record in self._written(meta.chain):
            if named_schema(record) == _REGISTERED:
                self._take(record)
        if meta.schema not in self._texts:
            raise UnknownWriterSchemaError(f"Nobody knows the schema of record {meta.seq} of {meta.chain!r}.")

    def _take(self, record: bytes) -> None:
        """Remember the schema that a record registers.

        Raises:
            MalformedRecordError: it is none.
        """
        body = decode_record(record, self._texts).body
        avro.parse(body["text"])
        if body["kind"] == "event" and fmt.schema_digest(body["text"]) == body["schema"]:
            self._texts.setdefault(body["schema"], body["text"])

    def _learn_heads(self, digests: Sequence[bytes]) -> None:
        texts = [self._texts[digest] for digest in digests]
        if self._ids is None:
            heads = [SINGLE_OBJECT + schema_fingerprint(text) for text in texts]
        else:
            heads = [CONFLUENT + number.to_bytes(_ID_BYTES, "big") for number in self._ids.ids_of(texts)]
        self._heads.update(zip(digests, heads, strict=True))


@lru_cache(maxsize=1024)
def schema_fingerprint(text: str) -> bytes:
    """The CRC-64-AVRO of a schema's parsing canonical form: 8 bytes, as they stand in a frame."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(json.loads(text)), "CRC-64-AVRO"))


def _head_size(framed: bytes) -> int:
    """How many bytes stand before the record."""
    if framed[:1] == CONFLUENT:
        size = len(CONFLUENT) + _ID_BYTES
        if len(framed) >= size and not 0 < int.from_bytes(framed[1:size], "big") <= MAX_ID:
            raise MalformedFrameError("A frame names a schema id that no registry gives.")
    elif framed[:2] == SINGLE_OBJECT:
        size = len(SINGLE_OBJECT) + _FINGERPRINT_BYTES
    else:
        raise MalformedFrameError(f"A message begins with {framed[:2].hex() or 'nothing'}: no frame of ours does.")
    if len(framed) < size:
        raise MalformedFrameError("A message ends within its frame.")
    return size
