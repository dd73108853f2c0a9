"""Reading a chain before it is believed: its links, its numbers, its tree, and the checkpoint that signs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tensorguard.ledger import checkpoint as checkpoints
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.fold import ByteFold
from tensorguard.ledger.record import decode_meta, decode_record

from producers.moving.errors import DestinationDiffersError, SourceUnsignedError, SourceUnsoundError
from schemas.codec import event_schema
from schemas.events import LedgerMoved, SchemaRegistered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tensorguard.ledger.checkpoint import Checkpoint
    from tensorguard.ledger.trust import TrustRoot

    from producers.engines.port import LogReader

PAGE = 512
_TAIL = 8


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of the source that was verified: its size, root and newest checkpoint, and the schemas it registered.

    ``partition`` is the intake partition that it was opened for; ``present`` is the number of its records that the
    destination holds already.
    """

    name: str
    partition: int
    size: int
    root: bytes
    note: bytes
    signed: int
    present: int
    schemas: dict[bytes, str] = field(repr=False)


def survey(source: LogReader, destination: LogReader, name: str, root: TrustRoot) -> Chain:
    """Verify a chain of the source, and that one of the two begins with the other.

    The checkpoint is taken before the size, so that it never covers more than is read.

    Raises:
        SourceUnsignedError: it has no checkpoint.
        SourceUnsoundError: its records are not those that are signed, or not in a row.
        DestinationDiffersError: the destination has another record somewhere.
    """
    note = source.checkpoint(name)
    if note is None:
        raise SourceUnsignedError(f"Chain {name!r} of the source has no checkpoint.")
    signed = _verified(note, name, root)
    size = source.size(name)
    if size < signed.size:
        raise SourceUnsoundError(f"Chain {name!r} has {size} records; {signed.size} were signed.")
    fold, schemas = ByteFold(name, (signed.size,)), dict[bytes, str]()
    for start, page in pages(source, name, 0, size):
        _check(name, start, page, fold, schemas)
        _compare(name, page, destination.read(name, start, len(page)))
    whole = fold.root()
    if fold.findings or fold.roots[signed.size] != signed.root:
        raise SourceUnsoundError(f"The records of chain {name!r} are not those that its checkpoint signs.")
    return Chain(name, partition_of(source, name), size, whole, note, signed.size, destination.size(name), schemas)


def partition_of(reader: LogReader, chain: str) -> int:
    """The intake partition that a chain was opened for.

    Raises:
        SourceUnsoundError: its first record does not say.
    """
    try:
        return decode_record(reader.read(chain, 0, 1)[0], {}).field("intake_partition", int)
    except (LedgerError, IndexError) as error:
        raise SourceUnsoundError(f"Chain {chain!r} does not begin with its opening.") from error


def root_of(reader: LogReader, chain: str, size: int) -> bytes:
    """The root over the first records of a chain, read anew.

    Raises:
        SourceUnsoundError: there are fewer.
    """
    fold = ByteFold(chain, ())
    for _, page in pages(reader, chain, 0, size):
        for data in page:
            fold.add(data)
    return fold.root()


def pages(reader: LogReader, chain: str, start: int, stop: int) -> Iterator[tuple[int, Sequence[bytes]]]:
    """The records of a chain from one number to before another, page by page, each with the number of its first.

    Raises:
        SourceUnsoundError: there are fewer.
    """
    while start < stop:
        page = reader.read(chain, start, min(PAGE, stop - start))
        if not page:
            raise SourceUnsoundError(f"Chain {chain!r} lacks record {start}.")
        yield start, page
        start += len(page)


def moved_to(reader: LogReader, chain: str) -> str | None:
    """The name of the ledger that goes on with a chain, if it ends here with its move.

    Only the writer's own records may stand behind that.
    """
    schema = event_schema(LedgerMoved.__name__)
    end = reader.size(chain)
    while end > 0:
        start = max(0, end - _TAIL)
        for data in reversed(reader.read(chain, start, end - start)):
            meta = decode_meta(data)
            if meta.cause is not None:
                moved = meta.schema == schema.digest
                return str(decode_record(data, {schema.digest: schema.text}).body["ledger"]) if moved else None
        end = start
    return None


def _verified(note: bytes, chain: str, root: TrustRoot) -> Checkpoint:
    try:
        return checkpoints.verify(note, root.chain_origin(chain), root.signer_keys).checkpoint
    except LedgerError as error:
        raise SourceUnsoundError(f"The checkpoint of chain {chain!r} does not verify ({error.code}).") from error


def _check(chain: str, start: int, page: Sequence[bytes], fold: ByteFold, schemas: dict[bytes, str]) -> None:
    registered = event_schema(SchemaRegistered.__name__).digest
    for seq, data in enumerate(page, start):
        fold.add(data)
        try:
            meta = decode_meta(data)
            body = decode_record(data, {}).body if meta.schema == registered else None
        except LedgerError as error:
            raise SourceUnsoundError(f"Record {seq} of chain {chain!r} cannot be read.") from error
        if (meta.chain, meta.seq) != (chain, seq) or fold.findings:
            raise SourceUnsoundError(f"Record {seq} of chain {chain!r} does not follow the one before it.")
        if body is not None and body["kind"] == "event":
            schemas[body["schema"]] = body["text"]


def _compare(chain: str, ours: Sequence[bytes], theirs: Sequence[bytes]) -> None:
    if list(ours[: len(theirs)]) != list(theirs):
        raise DestinationDiffersError(f"Chain {chain!r} of the destination has other records than the source.")
