"""The fixed texts of ledger format 1: the schemas every record shares and the three a chain starts with.

A record is the Avro encoding of ``{meta, command, body}``. Its writer schema is the text that
:func:`record_schema_text` composes from the body's schema; ``meta.schema`` is the SHA-256 of that exact text.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

FORMAT_VERSION = 1
MAX_RECORD_BYTES = 65_535
NAMESPACE = "tensorguard.ledger"

ID16: dict[str, Any] = {"type": "fixed", "name": "tensorguard.ledger.Id16", "size": 16}
HASH32: dict[str, Any] = {"type": "fixed", "name": "tensorguard.ledger.Hash32", "size": 32}

META: dict[str, Any] = {
    "type": "record",
    "name": "tensorguard.ledger.Meta",
    "fields": [
        {"name": "prev_hash", "type": HASH32},
        {"name": "chain", "type": "string"},
        {"name": "seq", "type": "long"},
        {"name": "epoch", "type": "long"},
        {"name": "schema", "type": "tensorguard.ledger.Hash32"},
        {"name": "event_id", "type": ID16},
        {"name": "stream", "type": "string"},
        {"name": "stream_seq", "type": "long"},
        {"name": "recorded_at", "type": "long"},
        {"name": "cause", "type": ["null", "tensorguard.ledger.Id16"]},
        {"name": "correlation", "type": ["null", "tensorguard.ledger.Id16"]},
        {"name": "trace", "type": ["null", "tensorguard.ledger.Id16"]},
    ],
}

SIGNED_COMMAND: dict[str, Any] = {
    "type": "record",
    "name": "tensorguard.ledger.SignedCommand",
    "fields": [
        {"name": "payload", "type": "bytes"},
        {"name": "key_id", "type": "tensorguard.ledger.Hash32"},
        {"name": "batch_index", "type": "long"},
        {"name": "batch_size", "type": "long"},
        {"name": "batch_path", "type": {"type": "array", "items": "tensorguard.ledger.Hash32"}},
        {"name": "signature", "type": "bytes"},
    ],
}

ENVELOPE: dict[str, Any] = {
    "type": "record",
    "name": "tensorguard.ledger.CommandEnvelope",
    "fields": [
        {"name": "chain", "type": "string"},
        {"name": "tenant", "type": "string"},
        {"name": "stream", "type": "string"},
        {"name": "expected_version", "type": ["null", "long"]},
        {"name": "command_id", "type": ID16},
        {"name": "command_type", "type": "string"},
        {"name": "schema", "type": HASH32},
        {"name": "issued_at", "type": "long"},
        {"name": "expires_at", "type": "long"},
        {"name": "on_behalf_of", "type": ["null", "string"]},
        {"name": "correlation", "type": ["null", "tensorguard.ledger.Id16"]},
        {"name": "trace", "type": ["null", "tensorguard.ledger.Id16"]},
        {"name": "body", "type": "bytes"},
    ],
}

CHAIN_OPENED: dict[str, Any] = {
    "type": "record",
    "name": "tensorguard.event.ChainOpened",
    "fields": [
        {"name": "format_version", "type": "int"},
        {"name": "chain", "type": "string"},
        {"name": "origin", "type": "string"},
        {"name": "intake_partition", "type": "int"},
        {"name": "authority_key", "type": "tensorguard.ledger.Hash32"},
    ],
}

SCHEMA_REGISTERED: dict[str, Any] = {
    "type": "record",
    "name": "tensorguard.event.SchemaRegistered",
    "fields": [
        {
            "name": "kind",
            "type": {"type": "enum", "name": "tensorguard.ledger.SchemaKind", "symbols": ["event", "command"]},
        },
        {"name": "name", "type": "string"},
        {"name": "schema", "type": "tensorguard.ledger.Hash32"},
        {"name": "text", "type": "string"},
    ],
}

EPOCH_OPENED: dict[str, Any] = {
    "type": "record",
    "name": "tensorguard.event.EpochOpened",
    "fields": [
        {"name": "epoch", "type": "long"},
        {"name": "writer", "type": "string"},
    ],
}


def compact(schema: dict[str, Any]) -> str:
    """The one text of a schema: JSON without spaces, keys in the order they are written, non-ASCII escaped."""
    return json.dumps(schema, separators=(",", ":"), ensure_ascii=True)


def record_schema_text(body: dict[str, Any]) -> str:
    """The exact writer schema of records with this body. The record is named after its body's event."""
    event = body["name"].rpartition(".")[2]
    return compact(
        {
            "type": "record",
            "name": f"tensorguard.record.{event}",
            "fields": [
                {"name": "meta", "type": META},
                {"name": "command", "type": ["null", SIGNED_COMMAND]},
                {"name": "body", "type": body},
            ],
        }
    )


def schema_digest(text: str) -> bytes:
    """SHA-256 of a schema's exact text: 32 bytes."""
    return sha256(text.encode()).digest()


BOOTSTRAP: dict[bytes, tuple[str, str]] = {
    schema_digest(text): (body["name"].rpartition(".")[2], text)
    for body in (CHAIN_OPENED, SCHEMA_REGISTERED, EPOCH_OPENED)
    for text in (record_schema_text(body),)
}
"""Digest -> (event, text) of the three schemas that are known before any ``SchemaRegistered``."""
