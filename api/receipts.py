"""Receipts and exports from a ledger that is being written: for the REST doors and the command line alike."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tensorguard.ledger import format as fmt
from tensorguard.ledger import proof
from tensorguard.ledger.checkpoint import Checkpoint
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.note import Note
from tensorguard.ledger.record import decode_meta, decode_record

from api.errors import ApiError
from schemas.codec import EVENTS, event_schema
from schemas.events import SchemaRegistered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.engines.port import LogReader

_PAGE = 1024


def covering_checkpoint(reader: LogReader, chain: str, seq: int, timeout: float) -> bytes:
    """The newest checkpoint of a chain, once it covers a record; waits for the signer at most so many seconds.

    Raises:
        ApiError: not_found, there is no such record; no_checkpoint, the signer has not come that far.
    """
    if not 0 <= seq < reader.size(chain):
        raise ApiError("not_found", "There is no such record.")
    deadline = time.monotonic() + timeout
    note = reader.checkpoint(chain)
    while size_of(note) <= seq:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ApiError("no_checkpoint", "No published checkpoint covers the record yet.")
        note = reader.wait_checkpoint(chain, note, left)
    return note or b""


def newest_checkpoint(reader: LogReader, chain: str, timeout: float) -> bytes | None:
    """A checkpoint of all that is committed now, or what there is after so many seconds."""
    try:
        return covering_checkpoint(reader, chain, reader.size(chain) - 1, timeout)
    except ApiError:
        return reader.checkpoint(chain)


def size_of(note: bytes | None) -> int:
    """How many records a checkpoint covers; 0 for none."""
    return Checkpoint.from_text(Note.from_bytes(note).text).size if note else 0


def receipt(reader: LogReader, chain: str, seq: int, timeout: float) -> bytes:
    """The ``tlog-proof`` of a record, under the newest checkpoint that covers it.

    Raises:
        ApiError: not_found or no_checkpoint.
    """
    note = covering_checkpoint(reader, chain, seq, timeout)
    leaves = [leaf_hash(data) for data in records(reader, chain, size_of(note))]
    data = reader.read(chain, seq, 1)[0]
    return proof.make_receipt(data, schema_text(reader, chain, data), leaves, seq, note)


def records(reader: LogReader, chain: str, size: int) -> Iterator[bytes]:
    """The first ``size`` records of a chain."""
    for start in range(0, size, _PAGE):
        yield from reader.read(chain, start, min(_PAGE, size - start))


def schema_text(reader: LogReader, chain: str, data: bytes) -> str:
    """The exact text of the schema that a record is written with."""
    meta = decode_meta(data)
    known = {schema.digest: schema.text for schema in map(event_schema, EVENTS)}
    if meta.schema in known:
        return known[meta.schema]
    return _registered(reader, chain, meta.schema, meta.seq)


def _registered(reader: LogReader, chain: str, digest: bytes, before: int) -> str:
    """A schema of another build, from where the chain registered it."""
    registration = event_schema(SchemaRegistered.__name__).digest
    for data in records(reader, chain, before):
        if decode_meta(data).schema == registration:
            body = decode_record(data, {}).body
            if body["schema"] == digest:
                return str(body["text"])
    return fmt.BOOTSTRAP.get(digest, ("", ""))[1]
