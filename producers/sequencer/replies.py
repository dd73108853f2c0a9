"""What was decided, read from the records: a command that comes again is told the same, and not decided twice.

It would be judged again, and even its rejection would stand on the chain as a second decision. Whatever the age of the
first one: the ids of an installation's own commands never expire.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from tensorguard.ledger.record import decode_record

from producers.engines.port import ACCEPTED, REJECTED, Reply
from schemas.events import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tensorguard.ledger.envelope import Envelope
    from tensorguard.ledger.record import Record


class Decision:
    """The records of one command, or one of the writer's own: they are committed together, with the reply."""

    def __init__(self, first: Record, data: bytes) -> None:
        self._first = first
        self.records = [data]

    def reply(self) -> Reply | None:
        """What the submitter was told; None for the writer's own."""
        if self._first.command is None:
            return None
        first, envelope = self._first.meta.seq, self._first.command.envelope()
        outcome, code, detail = self._outcome()
        last = first + len(self.records) - 1
        return Reply(envelope.command_id, outcome, self._first.meta.chain, first, last, code, detail, _digest(envelope))

    def _outcome(self) -> tuple[str, str, str]:
        if self._first.event != CommandRejected.__name__:
            return ACCEPTED, "", ""
        return REJECTED, self._first.field("code", str), self._first.field("detail", str)


def decisions(records: Iterable[bytes], schemas: Mapping[bytes, str]) -> Iterator[Decision]:
    """The decisions that records in a row are made of; ``schemas`` are those of the chain.

    Raises:
        MalformedRecordError: a record is of a schema that its chain never registered.
    """
    open_: Decision | None = None
    for data in records:
        record = decode_record(data, schemas)
        if open_ is not None and record.meta.cause is not None and record.command is None:
            open_.records.append(data)
            continue
        if open_ is not None:
            yield open_
        open_ = Decision(record, data)
    if open_ is not None:
        yield open_


def _digest(envelope: Envelope) -> bytes:
    return sha256(envelope.body).digest()
