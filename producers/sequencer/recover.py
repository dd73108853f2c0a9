"""Reading a chain back at start: every link is checked, what a snapshot does not cover is folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.record import GENESIS_PREV_HASH, decode_cause

from producers.deciders.snapshot import SnapshotError
from producers.errors import LedgerCorruptError
from producers.feed import Feed, Recorded
from producers.sequencer import snapshot
from producers.sequencer.fold import ChainFold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from producers.engines.port import LogEngine

    Note = Callable[[int, bytes | None], None]

_PAGE = 1024
_HASH_BYTES = 32
_log = structlog.get_logger("sequencer")


def _unheard(_: int, __: bytes | None) -> None:
    """Nobody wants to know."""


def recover(engine: LogEngine, chain: str, note: Note = _unheard, size: int | None = None) -> tuple[ChainFold, int]:
    """The fold of all committed records of a chain, and how many of them a snapshot covered.

    ``note`` is told each record in order: its seq, and the command that caused it. ``size``: how many there are, if
    that is known already.

    Raises:
        LedgerCorruptError: the records do not link up, or are fewer than were folded before.
    """
    fold = _from_snapshot(engine, chain)
    covered = fold.head.size
    _check_links(engine, fold, note)
    size = engine.size(chain) if size is None else size
    _fold_tail(engine, fold, note, size)
    if fold.head.size != size:
        raise LedgerCorruptError(f"Chain {chain!r} lacks records.")
    return fold, covered


def _from_snapshot(engine: LogEngine, chain: str) -> ChainFold:
    stored = engine.load_snapshot(chain)
    if stored is None:
        return ChainFold(chain)
    try:
        return snapshot.restore(stored)
    except SnapshotError as error:
        _log.warning("snapshot_dropped", chain=chain, size=stored.size, reason=error.detail)
        return ChainFold(chain)


def _check_links(engine: LogEngine, fold: ChainFold, note: Note) -> None:
    """Check by hashes alone that the records below a snapshot are those it was folded from."""
    leaf = GENESIS_PREV_HASH
    for start in range(0, fold.head.size, _PAGE):
        page = engine.read(fold.chain, start, min(_PAGE, fold.head.size - start))
        for seq, data in enumerate(page, start):
            if data[:_HASH_BYTES] != leaf:
                raise LedgerCorruptError(f"Record {seq} of chain {fold.chain!r} does not follow the one before it.")
            leaf = leaf_hash(data)
            note(seq, _cause(fold.chain, seq, data))
    if leaf != fold.head.leaf:
        raise LedgerCorruptError(f"Chain {fold.chain!r} does not end where it was folded to before.")


def _cause(chain: str, seq: int, data: bytes) -> bytes | None:
    try:
        return decode_cause(data)
    except LedgerError as error:
        raise LedgerCorruptError(f"Record {seq} of chain {chain!r} cannot be read.") from error


def _fold_tail(engine: LogEngine, fold: ChainFold, note: Note, size: int) -> None:
    for recorded in _tail(engine, fold.chain, fold.head.size, size):
        _check_next(fold, recorded)
        fold.apply(recorded.meta, recorded.event, leaf_hash(recorded.data))
        note(recorded.seq, recorded.meta.cause)


def _tail(engine: LogEngine, chain: str, first: int, size: int) -> Iterator[Recorded]:
    feed = Feed(engine)  # For its schemas alone.
    try:
        for start in range(first, size, _PAGE):
            for data in engine.read(chain, start, min(_PAGE, size - start)):
                yield feed.typed(chain, data)
    except LedgerError as error:
        raise LedgerCorruptError(f"Chain {chain!r} has a record that cannot be read.") from error


def _check_next(fold: ChainFold, recorded: Recorded) -> None:
    meta, head = recorded.meta, fold.head
    sound = (
        meta.prev_hash == head.leaf
        and meta.chain == fold.chain
        and meta.seq == head.size
        and meta.epoch >= head.epoch
        and meta.recorded_at >= head.recorded_at
        and meta.stream_seq == fold.version_of(meta.stream)
    )
    if not sound:
        raise LedgerCorruptError(f"Record {head.size} of chain {fold.chain!r} does not follow the one before it.")
