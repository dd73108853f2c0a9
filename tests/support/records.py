"""Bytes that begin as records do, for tests of who keeps them: what they say does not matter there."""

from __future__ import annotations

from tensorguard.ledger.record import Meta, encode_record

from schemas.codec import event_schema


def some_record(mark: str = "", chain: str = "acme") -> bytes:
    """A record that another mark makes another one; it extends nothing."""
    schema = event_schema("EpochOpened")
    meta = Meta(bytes(32), chain, 0, 1, schema.digest, bytes(16), "chain", 0, 1_000_000, None, None, None)
    return encode_record(schema.text, meta, None, {"epoch": 1, "writer": mark})
