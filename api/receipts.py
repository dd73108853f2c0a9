"""Receipts and exports from a ledger that is being written: for the REST doors and the command line alike."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tensorguard.ledger import format as fmt
from tensorguard.ledger import proof
from tensorguard.ledger.checkpoint import Checkpoint
from tensorguard.ledger.merkle import blocked_inclusion_path, leaf_hash, root_of
from tensorguard.ledger.note import Note
from tensorguard.ledger.record import decode_meta, decode_record

from api.errors import ApiError
from schemas.codec import EVENTS, event_schema
from schemas.events import SchemaRegistered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.engines.port import LogReader

_PAGE = _BLOCK = 1024
_ROOTS: WeakKeyDictionary[LogReader, dict[tuple[str, int], bytes]] = WeakKeyDictionary()


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
    data = reader.read(chain, seq, 1)[0]
    path = _inclusion_path(reader, chain, seq, size_of(note))
    return proof.make_receipt_by_path(data, schema_text(reader, chain, data), path, seq, note)


def _inclusion_path(reader: LogReader, chain: str, seq: int, size: int) -> list[bytes]:
    """The path of a record in the tree of the first ``size`` records."""
    roots = [_block_root(reader, chain, start, size) for start in range(0, size, _BLOCK)]
    return blocked_inclusion_path(_block(reader, chain, seq - seq % _BLOCK, size), roots, seq, _BLOCK)


def _block_root(reader: LogReader, chain: str, start: int, size: int) -> bytes:
    """The root of a block of the tree. A full one never changes, so it is hashed once in the life of a reader."""
    known = _ROOTS.setdefault(reader, {})
    if (chain, start) in known:
        return known[chain, start]
    root = root_of(_block(reader, chain, start, size))
    if start + _BLOCK <= size:
        known[chain, start] = root
    return root


def _block(reader: LogReader, chain: str, start: int, size: int) -> list[bytes]:
    return [leaf_hash(data) for data in reader.read(chain, start, min(_BLOCK, size - start))]


def records(reader: LogReader, chain: str, stop: int, start: int = 0) -> Iterator[bytes]:
    """The records of a chain from one position on, up to another."""
    for at in range(start, stop, _PAGE):
        yield from reader.read(chain, at, min(_PAGE, stop - at))


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
