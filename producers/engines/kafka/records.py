"""Reading chains: their records in order, wherever in the topics these lie."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from producers.engines.errors import LedgerDamagedError
from producers.engines.kafka.errors import typed_errors
from producers.engines.kafka.index import NEAR

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from producers.engines.kafka.ends import Ends
    from producers.engines.kafka.stream import Stream
    from producers.engines.kafka.streams import Streams

_SECONDS = 30.0
_SILENT_SECONDS = 5.0
_WRITING_AGAIN = 2
"""So often a record may lack: a writer that has found a commit without its marker writes it again."""


class Records:
    """The committed records of every chain; any thread may use it, one at a time reads from Kafka."""

    def __init__(self, streams: Streams, ends: Ends) -> None:
        self._streams = streams
        self._ends = ends

    def read(self, chain: str, start: int, end: int, size: int) -> list[bytes]:
        """The records ``start`` up to ``end`` of a chain of which ``size`` are committed.

        Raises:
            LedgerDamagedError: the topic lacks a record, or holds one that is not the ledger's.
            BrokerError: Kafka cannot be reached.
        """
        if start >= end:
            return []
        with self._streams.lock, typed_errors("reading a chain"):
            stream = self._streams.of(chain)
            stream.read_at = time.monotonic()
            found = self._collect(stream, start, end, size)
            stream.trim()
            self._streams.bound()
            return found

    def prefetch(self, starts: Mapping[str, int]) -> None:
        """Have records of chains brought together, each from where it will be read, if that is known without a search.

        Raises:
            BrokerError: Kafka cannot be reached.
        """
        with self._streams.lock, typed_errors("reading chains"):
            if not self._streams.roomy:
                return  # Others would have to give way to what is not asked for yet.
            places = [(stream, offset) for stream, offset in self._ahead(starts) if offset is not None]
            for stream, _ in places:
                stream.clear()
                stream.ended, stream.read_at = False, time.monotonic()
            self._streams.bring(places)

    def note(self, chain: str, seq: int, offset: int) -> None:
        """Learn where a record lies."""
        with self._streams.lock:
            self._streams.of(chain).index.note(seq, offset)

    def close(self) -> None:
        """Give the consumer back."""
        with self._streams.lock:
            self._streams.close()

    def _ahead(self, starts: Mapping[str, int]) -> Iterator[tuple[Stream, int | None]]:
        for chain, start in starts.items():
            stream = self._streams.of(chain)
            if not stream.assigned and not stream.has(start) and stream.fault is None:
                yield stream, stream.index.near(start)

    def _collect(self, stream: Stream, start: int, end: int, size: int) -> list[bytes]:
        found: list[bytes] = []
        deadline, looked_again = time.monotonic() + _SECONDS, False
        silent_until, sought, lacked = time.monotonic() + _SILENT_SECONDS, -1, 0
        if not stream.has(start):
            stream.fault = None
        while start + len(found) < end:
            wanted = start + len(found)
            if stream.has(wanted):
                found += islice(stream.window, wanted - stream.first, end - stream.first)
                stream.trim()
                deadline = time.monotonic() + _SECONDS
                silent_until, lacked = time.monotonic() + _SILENT_SECONDS, 0
                continue
            if stream.fault is not None:
                if looked_again:
                    raise stream.fault
                # What the consumer still held from an earlier place would look wrong as well: look once more.
                looked_again, stream.fault = True, None
                stream.clear()
            if time.monotonic() > silent_until:
                lacked = lacked + 1 if self._lacks(stream) else 0
                if lacked > _WRITING_AGAIN:
                    raise _lacking(stream, wanted)
                # After an outage a consumer may have stopped without a word: have it begin anew.
                silent_until = time.monotonic() + _SILENT_SECONDS
                self._streams.unassign(stream)
                stream.clear()
            if not self._brings(stream, wanted):
                if sought == wanted and stream.next is not None and stream.first > wanted:
                    stream.fault, sought = _lacking(stream, wanted), -1
                    continue
                self._seek(stream, wanted, size, deadline)
                sought = wanted
            self._streams.pump(stream, deadline)
        return found

    def _lacks(self, stream: Stream) -> bool:
        """Whether a topic ends, with nothing unsettled in it: what is committed may still lack its marker."""
        place = self._streams.place(stream)
        return stream.ended and stream.fault is None and stream.end >= self._ends.written([place])[place]

    def _brings(self, stream: Stream, wanted: int) -> bool:
        """Whether the consumer will soon come by a record."""
        return stream.assigned and (stream.next is None or 0 <= wanted - stream.next <= NEAR)

    def _seek(self, stream: Stream, wanted: int, size: int, deadline: float) -> None:
        """Have the consumer stand at a record, or a little before it."""
        low, high = stream.index.gaps(wanted, size, self._streams.end(stream))
        high = high if wanted else low
        while high - low > NEAR:
            middle = (low + high) // 2
            met = self._first(stream, wanted + middle, deadline)
            if met is not None and met[0] <= wanted:
                low = met[1] - met[0]
            else:
                high = middle
        self._streams.assign(stream, wanted + low)

    def _first(self, stream: Stream, offset: int, deadline: float) -> tuple[int, int] | None:
        """Seq and offset of the first record at an offset or behind it; None if there is none."""
        self._streams.assign(stream, offset)
        while stream.next is None and not stream.ended:
            self._streams.pump(stream, deadline)
        return None if stream.next is None else (stream.first, stream.first_offset)


def _lacking(stream: Stream, wanted: int) -> LedgerDamagedError:
    return LedgerDamagedError(f"Record {wanted} of chain {stream.chain!r} is gone from Kafka.")
