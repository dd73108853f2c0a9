"""Writing what was surveyed: whole decisions with their replies, read back before they count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorguard.ledger.checkpoint import Checkpoint
from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.note import Note

from producers.engines.port import Append, Commit
from producers.moving.errors import CopyDamagedError, SourceUnsoundError
from producers.moving.survey import PAGE, pages, root_of
from producers.sequencer.replies import decisions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from producers.engines.port import LogEngine, LogReader
    from producers.moving.survey import Chain
    from producers.sequencer.replies import Decision


def transfer(source: LogReader, destination: LogEngine, epoch: int, chain: Chain) -> None:
    """Append what the destination lacks of a chain, and read it back.

    A commit holds whole decisions and their replies, so a copy that is broken off anywhere is a shorter ledger.

    Raises:
        FencedError: somebody else has taken the destination.
        CopyDamagedError: the destination gives back something else.
        SourceUnsoundError: the source has changed since it was surveyed.
        StorageFullError: the destination holds what came before.
    """
    at = chain.present
    for batch in _batches(source, chain):
        records = [data for decision in batch for data in decision.records]
        replies = [reply for decision in batch if (reply := decision.reply()) is not None]
        destination.commit(Commit(epoch, [Append(chain.name, at, records)], replies))
        at += len(records)
    if root_of(destination, chain.name, chain.size) != chain.root:
        raise CopyDamagedError(f"Chain {chain.name!r} reads back from the destination as something else.")


def _batches(source: LogReader, chain: Chain) -> Iterator[Sequence[Decision]]:
    batch: list[Decision] = []
    records = (data for _, page in pages(source, chain.name, chain.present, chain.size) for data in page)
    try:
        for decision in decisions(records, chain.schemas):
            batch.append(decision)
            if sum(len(each.records) for each in batch) >= PAGE:
                yield batch
                batch = []
    except LedgerError as error:
        raise SourceUnsoundError(f"Chain {chain.name!r} has a record that cannot be read.") from error
    if batch:
        yield batch


def publish(destination: LogEngine, chain: Chain) -> None:
    """Publish a copied chain's checkpoint, unless the destination has a newer one: it has gone on since."""
    there = destination.checkpoint(chain.name)
    if there is None or Checkpoint.from_text(Note.from_bytes(there).text).size < chain.signed:
        destination.publish_checkpoint(chain.name, chain.note)
