"""Frames of operations under way, from the trainer to whoever listens: in memory, bounded, never kept for later.

A stream begins with its first frame or its first reader and ends with its operation, or is lost with the trainer that
fed it. What another trainer streams of the same operation is another stream: its frames, cut elsewhere, have higher
numbers.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STREAM_BYTES = 1 << 20
TOTAL_BYTES = 256 << 20
MOST = 65_536
APART = 1 << 32
"""How far the numbers of what came before a loss are from those that come after it."""


@dataclass(eq=False)
class _Stream:
    """What is held of a stream that began with ``begin``: ``frames`` from ``first`` on; and whom to tell of more."""

    begin: int
    first: int
    frames: deque[bytes] = field(default_factory=deque)
    size: int = 0
    ended: bool = False
    lost: bool = False
    readers: list[LocalReader] = field(default_factory=list)


class Streams:
    """The streams of all operations, whose frames are numbered from ``begin`` on. Any thread may call every method.

    Each holds at most ``stream_bytes``, all together ``total_bytes``; frames of more than ``most`` streams are dropped.
    """

    def __init__(
        self,
        stream_bytes: int = STREAM_BYTES,
        begin: int = 0,
        total_bytes: int = TOTAL_BYTES,
        most: int = MOST,
    ) -> None:
        self._stream_bytes = stream_bytes
        self._total_bytes = total_bytes
        self._most = most
        self._held = 0
        self._begin = begin
        self._changed = threading.Condition()
        self._streams: dict[bytes, _Stream] = {}

    def append(self, operation_id: bytes, data: bytes) -> None:
        """Add a frame; the oldest of the stream give way when it, or all of them, hold too many bytes."""
        with self._changed:
            if operation_id not in self._streams and len(self._streams) >= self._most:
                return
            stream = self._stream(operation_id)
            stream.frames.append(data)
            stream.size += len(data)
            self._held += len(data)
            while stream.frames and (stream.size > self._stream_bytes or self._held > self._total_bytes):
                self._give_way(stream)
            listeners = self._tell(stream)
        _call(listeners)

    def _give_way(self, stream: _Stream) -> None:
        size = len(stream.frames.popleft())
        stream.size -= size
        self._held -= size
        stream.first += 1

    def end(self, operation_id: bytes) -> None:
        """No more frames come; what readers have not read yet they still can. No error if there is no such stream."""
        with self._changed:
            stream = self._pop(operation_id)
            if stream is None:
                return
            stream.ended = True
            listeners = self._tell(stream)
        _call(listeners)

    def lose(self, operation_ids: Iterable[bytes]) -> None:
        """Streams break off: who fed them is gone, and what comes of their operations will be other streams."""
        with self._changed:
            lost = [stream for each in operation_ids if (stream := self._pop(each))]
            self._begin += APART
            for stream in lost:
                stream.ended = stream.lost = True
            listeners = [listener for stream in lost for listener in self._tell(stream)]
        _call(listeners)

    def reader(self, operation_id: bytes, notify: Callable[[], None] | None = None) -> LocalReader:
        """A reader of a stream from the oldest frame that is held; ``notify`` is called when there is more, or the end.

        A stream that has ended is unknown: look whether the operation is pending after this, not before.
        """
        with self._changed:
            stream = self._stream(operation_id)
            reader = LocalReader(self, operation_id, stream, notify)
            stream.readers.append(reader)
            return reader

    def _pop(self, operation_id: bytes) -> _Stream | None:
        """Know a stream no longer; what its readers still hold of it is theirs."""
        stream = self._streams.pop(operation_id, None)
        self._held -= stream.size if stream else 0
        return stream

    def __len__(self) -> int:
        """How many streams there are."""
        with self._changed:
            return len(self._streams)

    def _stream(self, operation_id: bytes) -> _Stream:
        return self._streams.setdefault(operation_id, _Stream(self._begin, self._begin))

    def _tell(self, stream: _Stream) -> list[Callable[[], None]]:
        self._changed.notify_all()
        return [reader.notify for reader in stream.readers if reader.notify]

    def _read(self, reader: LocalReader, timeout: float) -> list[bytes] | None:
        stream = reader.stream
        with self._changed:
            self._changed.wait_for(lambda: stream.ended or stream.first + len(stream.frames) > reader.position, timeout)
            reader.missed += max(0, stream.first - reader.position)
            skip = max(0, reader.position - stream.first)
            frames = list(stream.frames)[skip:]
            reader.position = stream.first + len(stream.frames)
            return None if stream.ended and not frames else frames

    def _over(self, reader: LocalReader) -> bool:
        with self._changed:
            stream = reader.stream
            return stream.ended and reader.position >= stream.first + len(stream.frames)

    def _leave(self, reader: LocalReader) -> None:
        with self._changed:
            stream = reader.stream
            if reader in stream.readers:
                stream.readers.remove(reader)
            untouched = not stream.readers and stream.first + len(stream.frames) == stream.begin
            if untouched and self._streams.get(reader.operation_id) is stream:
                self._pop(reader.operation_id)


class LocalReader:
    """One reader's place in a stream; ``missed`` counts the frames that gave way before they were read."""

    def __init__(
        self, streams: Streams, operation_id: bytes, stream: _Stream, notify: Callable[[], None] | None
    ) -> None:
        self._streams = streams
        self.operation_id = operation_id
        self.stream = stream
        self.notify = notify
        self.position = stream.begin
        self.missed = 0

    @property
    def begin(self) -> int:
        """The number of the stream's first frame."""
        return self.stream.begin

    @property
    def lost(self) -> bool:
        """Whether the stream broke off before its operation ended."""
        return self.stream.lost

    @property
    def over(self) -> bool:
        """Whether no more frames come behind those that were read."""
        return self._streams._over(self)  # noqa: SLF001 -- the two are one

    def read(self, timeout: float = 0.0) -> list[bytes] | None:
        """The frames since the last call, waiting up to so many seconds for the first; None once the stream has ended.

        An empty list says that there are none yet. One thread reads at a time.
        """
        return self._streams._read(self, timeout)  # noqa: SLF001 -- the two are one

    def close(self) -> None:
        """Listen no more."""
        self._streams._leave(self)  # noqa: SLF001 -- the two are one

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _call(listeners: list[Callable[[], None]]) -> None:
    for listener in listeners:
        with suppress(RuntimeError):  # its event loop has ended meanwhile
            listener()
