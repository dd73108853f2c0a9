"""What was decided, however long ago: the records say so, and a compact index says which of them.

An engine may forget replies after a while; a command that comes again then must not be decided again. The index is made
anew from the records themselves whenever they are read back, so nothing but the ledger has to be right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from producers.engines.port import REFUSED
from producers.feed import Feed
from producers.sequencer.places import Places
from producers.sequencer.replies import Decision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from producers.engines.port import LogReader, Reply

_PAGE = 16


class DecisionMemory:
    """The decisions on the chains that one sequencer writes."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._places = Places()
        self._feed = Feed(reader)  # For its schemas alone.

    def noting(self, chain: str) -> Callable[[int, bytes | None], None]:
        """What is told each record of a chain in order, by its seq and cause: a decision's records lie in a row."""
        before: bytes | None = None

        def note(seq: int, cause: bytes | None) -> None:
            nonlocal before
            if cause is not None and cause != before:
                self._places.add(_key(cause, chain), seq)
            before = cause

        return note

    def add(self, replies: Iterable[Reply]) -> None:
        """Know what was just decided; refusals are not on the ledger."""
        for reply in replies:
            if reply.first_seq is not None:
                self._places.add(_key(reply.command_id, reply.chain), reply.first_seq)

    def reply(self, command_id: bytes, chain: str) -> Reply | None:
        """The decision on a command that led to records of a chain; None if there is none."""
        for seq in self._places.find(_key(command_id, chain)):
            known = self._reader.reply(command_id, chain)
            if known is not None and known.outcome != REFUSED:
                return known
            found = self._read(command_id, chain, seq)
            if found is not None:
                return found
        return None

    def _read(self, command_id: bytes, chain: str, seq: int) -> Reply | None:
        decision: Decision | None = None
        for data in self._records(chain, seq):
            record = self._feed.record(chain, data)
            if record.meta.cause != command_id:
                break
            if decision is None:
                decision = Decision(record, data)
            else:
                decision.records.append(data)
        return None if decision is None else decision.reply()

    def _records(self, chain: str, seq: int) -> Iterator[bytes]:
        while page := self._reader.read(chain, seq, _PAGE):
            yield from page
            seq += len(page)


def _key(command_id: bytes, chain: str) -> int:
    """Where to look for a command. Python keys its hash anew in each process: nobody can choose ids that collide."""
    return hash((command_id, chain))
