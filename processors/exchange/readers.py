"""Streams as a door's process has them, whose hub is another process."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from processors.exchange.streams import STREAM_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class RemoteReader:
    """One reader's place in a stream: what came over the socket and was not read yet, the newest of it if too much."""

    def __init__(self, notify: Callable[[], None] | None, leave: Callable[[], None]) -> None:
        self._notify = notify
        self._leave = leave
        self._changed = threading.Condition()
        self._frames: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._ended = False
        self._begin = 0
        self.position = 0
        self.missed = 0
        self.lost = False

    @property
    def begin(self) -> int:
        """The number of the stream's first frame."""
        return self._begin

    def begun(self, number: int) -> None:
        """The hub has said which the first frame is."""
        with self._changed:
            self._begin = number
            self.position = max(self.position, number)

    def came(self, first: int, frames: Sequence[bytes], *, ended: bool, lost: bool) -> None:
        """The hub sent frames, or that no more come."""
        with self._changed:
            for number, frame in enumerate(frames, first):
                self._frames.append((number, frame))
                self._size += len(frame)
            while self._size > STREAM_BYTES:
                self._size -= len(self._frames.popleft()[1])
            self._ended |= ended
            self.lost |= lost
            self._changed.notify_all()
        if self._notify is not None:
            with suppress(RuntimeError):  # its event loop has ended meanwhile
                self._notify()

    def read(self, timeout: float = 0.0) -> list[bytes] | None:
        """The frames since the last call that follow on one another; None once the stream has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._ended, timeout)
            if not self._frames:
                return None if self._ended else []
            self.missed += max(0, self._frames[0][0] - self.position)
            self.position = self._frames[0][0]
            found = []
            while self._frames and self._frames[0][0] == self.position:
                found.append(self._frames.popleft()[1])
                self._size -= len(found[-1])
                self.position += 1
            return found

    def close(self) -> None:
        """Listen no more."""
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Silence:
    """A reader of nothing, where no stream can be listened to."""

    begin = position = missed = 0
    lost = False

    def read(self, timeout: float = 0.0) -> list[bytes] | None:  # noqa: ARG002 -- nothing ever comes
        """Nothing yet."""
        return []

    def close(self) -> None:
        """Nobody listened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""
