"""What topics of chains hold, as a writer asks before it begins: nothing that was told of them is believed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from producers.engines.errors import LedgerDamagedError
from producers.engines.kafka.errors import typed_errors
from producers.engines.kafka.messages import Head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producers.engines.kafka.stream import Stream
    from producers.engines.kafka.streams import Streams

_SECONDS = 30.0


class Survey:
    """Reads topics out, many at once; what was held of them before is forgotten."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def counts(self, heads: Mapping[str, Head], ends: Mapping[str, int]) -> dict[str, int]:
        """How many committed records the topics of chains hold, of which these heads are known.

        ``ends``: the offsets up to which every one is read. A broker that leads a topic since a moment ago may take it
        for shorter than it is.

        Raises:
            LedgerDamagedError: a topic holds what is not the ledger's.
            BrokerError: Kafka cannot be reached.
        """
        with self._streams.lock, typed_errors("reading chains"):
            streams = self._anew(heads)
            for stream in streams:
                self._read_out(stream, ends[stream.chain])
            return {each.chain: each.newest[0] + 1 if each.newest else 0 for each in streams}

    def firsts(self, ends: Mapping[str, int]) -> dict[str, bytes]:
        """The first records of topics that end there, where there are any; nothing in it where that is no record.

        Raises:
            BrokerError: Kafka cannot be reached.
        """
        with self._streams.lock, typed_errors("reading chains"):
            found: dict[str, bytes] = {}
            streams, deadline = self._anew(dict.fromkeys(ends, Head(0, 0, 0))), time.monotonic() + _SECONDS
            while streams:
                begun = [each for each in streams if each.next is not None or each.read_up_to(ends[each.chain])]
                for stream in begun:
                    if (first := _first_of(stream)) is not None:
                        found[stream.chain] = first
                    self._streams.let_go(stream)
                    deadline = time.monotonic() + _SECONDS
                streams = [each for each in streams if each not in begun]
                if streams:
                    self._streams.pump(streams[0], deadline)
            return found

    def newest(self, chain: str) -> tuple[int, int] | None:
        """Seq and offset of the last record of a chain that was read, if one was."""
        return self._streams.newest(chain)

    def _anew(self, heads: Mapping[str, Head]) -> list[Stream]:
        """Streams of which nothing is held, nor known of their ends; the consumer brings them from their heads on."""
        streams = [self._streams.of(chain) for chain in heads]
        self._streams.anew(streams)
        for stream in streams:
            if heads[stream.chain].seq:
                stream.index.note(heads[stream.chain].seq, heads[stream.chain].offset)
        self._streams.bring([(each, heads[each.chain].offset) for each in streams])
        return streams

    def _read_out(self, stream: Stream, end: int) -> None:
        """Read on until the topic ends, and up to an offset at least; then let go of it."""
        deadline, reached = time.monotonic() + _SECONDS, stream.newest
        while not stream.read_up_to(end):
            if not stream.assigned:  # It was in the way of another one.
                self._streams.assign(stream, stream.newest[1] + 1 if stream.newest else 0)
            self._streams.pump(stream, deadline)
            stream.trim()
            self._streams.bound()
            if stream.newest != reached:
                deadline, reached = time.monotonic() + _SECONDS, stream.newest
        if stream.fault is not None:
            raise stream.fault
        self._streams.unassign(stream)
        stream.clear()


def _first_of(stream: Stream) -> bytes | None:
    """The first record of a topic whose first messages were taken; None if there are none.

    Raises:
        EngineError: it cannot be read, whatever is in it.
    """
    if stream.fault is not None and not isinstance(stream.fault, LedgerDamagedError):
        raise stream.fault
    if stream.next is None and stream.fault is None:
        return None
    return stream.window[0] if stream.window and stream.first == 0 else b""
