"""One connection of a door's process to the hub: requests of many threads, answered in turn, and streams beside them.

One thread sends and one receives; the latter never waits for the former, so neither end can wait for the other for
ever.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from processors.exchange.errors import ExchangeAwayError, ExchangeError
from processors.exchange.frames import receive, send, unpack
from processors.exchange.limits import MAX_ANSWER_BYTES
from processors.exchange.readers import RemoteReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.exchange.frames import Header

ANSWER_SECONDS = 15.0


class Connection:
    """Made with a connected socket; :meth:`serve` receives in the calling thread until it ends.

    ``greeted`` is called once the hub has answered to the name of a door: one that stands still accepts connections.
    """

    def __init__(self, end: socket.socket, greeted: Callable[[Connection], None] = lambda _: None) -> None:
        self._socket = end
        self._lock = threading.Lock()
        self._outbox: SimpleQueue[tuple[Header, bytes] | None] = SimpleQueue()
        self._asked: deque[Future[tuple[Header, bytes]]] = deque()
        self._readers: dict[int, RemoteReader] = {}
        self._numbers = itertools.count()
        self._over = False
        self._sender = threading.Thread(target=self._send, name="exchange-sender", daemon=True)
        self._sender.start()
        hello = self._enqueue({"op": "hello", "as": "door"}, b"")
        hello.add_done_callback(lambda answer: None if answer.exception() else greeted(self))

    def ask(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        """The answer to a request.

        Raises:
            ExchangeAwayError: the hub is gone, or does not answer in time; the connection then ends.
        """
        try:
            return self._enqueue(header, body).result(ANSWER_SECONDS)
        except NotInTime as error:
            self.end()  # what it still answers could be taken for the answer to something else
            raise ExchangeAwayError("The exchange does not answer in time.") from error

    def reader(self, notify: Callable[[], None] | None) -> tuple[int, RemoteReader]:
        """A reader with a number of its own, which the hub is to be told next."""
        number = next(self._numbers)
        reader = RemoteReader(notify, lambda: self._leave(number))
        with self._lock:
            self._readers[number] = reader
        return number, reader

    @property
    def over(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._over

    def end(self) -> None:
        """End it; from any thread. No more is asked by it."""
        with self._lock:
            self._over = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        """Take answers and frames of streams until the connection ends."""
        try:
            while (frame := receive(self._socket, MAX_ANSWER_BYTES)) is not None:
                self._take(*frame)
        except (OSError, ExchangeError, ValueError, KeyError, TypeError, IndexError):
            self.end()

    def close(self) -> None:
        """Let everybody go who waits, and give the socket back."""
        self.end()
        with self._lock:
            asked, self._asked = list(self._asked), deque()
            readers, self._readers = list(self._readers.values()), {}
        for future in asked:
            future.set_exception(_gone())
        for reader in readers:
            reader.came(0, (), ended=True, lost=True)
        self._outbox.put(None)
        self._sender.join()
        self._socket.close()

    def _enqueue(self, header: Header, body: bytes) -> Future[tuple[Header, bytes]]:
        future: Future[tuple[Header, bytes]] = Future()
        with self._lock:  # answers come in the order of requests
            if self._over:
                raise _gone()
            self._asked.append(future)
            self._outbox.put((header, body))
        return future

    def _leave(self, number: int) -> None:
        with self._lock:
            if self._readers.pop(number, None) is not None and not self._over:
                self._outbox.put(({"op": "unlisten", "reader": number}, b""))

    def _take(self, header: Header, body: bytes) -> None:
        if header.get("op") != "frames":
            with self._lock:
                future = self._asked.popleft()
            future.set_result((header, body))
            return
        with self._lock:
            reader = self._readers.get(header["reader"])
        if reader is not None:
            reader.came(header["first"], list(unpack(body)), ended=header["ended"], lost=header["lost"])

    def _send(self) -> None:
        while (frame := self._outbox.get()) is not None:
            try:
                send(self._socket, *frame)
            except OSError:
                self.end()


def _gone() -> ExchangeAwayError:
    return ExchangeAwayError("The exchange does not answer.")
