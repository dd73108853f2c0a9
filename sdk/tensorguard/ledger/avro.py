"""Avro by fastavro, with our errors: whole values in, whole bytes out, nothing left over."""

from __future__ import annotations

import io
import json
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from tensorguard.ledger.errors import MalformedRecordError


def parse(text: str) -> Any:
    """A schema text, parsed for :func:`encode` and :func:`decode`.

    Raises:
        MalformedRecordError: it is no Avro schema.
    """
    try:
        return parse_schema(json.loads(text))
    except Exception as error:
        raise MalformedRecordError("A schema text is no Avro schema.") from error


def parse_fields(text: str) -> dict[str, Any]:
    """The types of a record's fields, each parsed by itself: a record is encoded as its fields, one after another.

    Raises:
        MalformedRecordError: it is no Avro schema of a record.
    """
    known: dict[str, Any] = {}
    try:
        return {field["name"]: parse_schema(field["type"], known) for field in json.loads(text)["fields"]}
    except Exception as error:
        raise MalformedRecordError("A schema text is no Avro schema of a record.") from error


def encode(schema: Any, value: Any) -> bytes:
    """The Avro encoding of a value.

    Raises:
        MalformedRecordError: the value does not fit the schema.
    """
    out = io.BytesIO()
    try:
        schemaless_writer(out, schema, value, strict=True)
    except Exception as error:
        raise MalformedRecordError("A value does not fit its Avro schema.") from error
    return out.getvalue()


def decode(schema: Any, data: bytes, *, prefix: bool = False) -> Any:
    """The value of an Avro encoding; all bytes must be used unless only a prefix is wanted.

    Raises:
        MalformedRecordError: the bytes do not fit the schema, or some are left over.
    """
    source = io.BytesIO(data)
    try:
        value = schemaless_reader(source, schema, None)
    except Exception as error:
        raise MalformedRecordError("Bytes do not fit their Avro schema.") from error
    if not prefix and source.tell() != len(data):
        raise MalformedRecordError(f"{len(data) - source.tell()} bytes are left over after an Avro value.")
    return value


def decode_canonical(schema: Any, data: bytes) -> Any:
    """The value of an Avro encoding that is the one which :func:`encode` gives: numbers, say, can be written longer.

    Raises:
        MalformedRecordError: the bytes do not fit the schema, or are another encoding of their value.
    """
    value = decode(schema, data)
    if encode(schema, value) != data:
        raise MalformedRecordError("Bytes are not the one Avro encoding of their value.")
    return value
