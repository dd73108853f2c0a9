"""The trainer's end of the exchange."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from processors.exchange.address import connected
from processors.exchange.errors import ExchangeAwayError, ExchangeError, ExchangeFullError
from processors.exchange.frames import receive, send
from processors.exchange.limits import MAX_ANSWER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from processors.exchange.frames import Header

log = structlog.get_logger(__name__)


class TrainerClient:
    """A connection under a worker's name. ``on_close`` is called once, from another thread, when the hub is gone.

    Requests may come from any thread; one is under way at a time.

    Raises:
        ExchangeAwayError: there is no hub; so with every request once it is gone.
    """

    def __init__(self, data_dir: Path, worker: str, on_close: Callable[[], None] | None = None) -> None:
        self._socket = connected(data_dir)
        self._on_close = on_close
        self._request = threading.Lock()
        self._answered = threading.Condition()
        self._answer: tuple[Header, bytes] | None = None
        self._wanted = False
        self._closed = False
        self._thread = threading.Thread(target=self._read, name="exchange", daemon=True)
        self._thread.start()
        self._ask({"op": "hello", "as": "trainer", "worker": worker})

    def input(self, operation_id: bytes) -> bytes | None:
        """An operation's input, or None if the hub does not have it."""
        header, body = self._ask({"op": "input", "id": operation_id.hex()})
        return body if header["found"] else None

    def drop_input(self, operation_id: bytes) -> None:
        """Let the hub forget an input."""
        self._ask({"op": "drop_input", "id": operation_id.hex()})

    def put_result(self, operation_id: bytes, data: bytes) -> None:
        """Hand a result over; it is with the hub when this returns."""
        self._ask({"op": "put_result", "id": operation_id.hex()}, data)

    def stream(self, operation_id: bytes, data: bytes) -> None:
        """Send a frame of an operation's stream, without waiting for anybody to have it."""
        self._tell({"op": "stream", "id": operation_id.hex()}, data)

    def end_stream(self, operation_id: bytes) -> None:
        """End an operation's stream; no error if it streamed nothing."""
        self._tell({"op": "end_stream", "id": operation_id.hex()})

    def report(self, measures: bytes) -> None:
        """Tell what was measured (see :class:`processors.measures.Measures`)."""
        self._ask({"op": "measures"}, measures)

    def ready(self) -> None:
        """Tell that operations can be executed now."""
        self._ask({"op": "ready"})

    def announce(self, standing: bytes) -> None:
        """Tell the roster how this trainer stands."""
        self._ask({"op": "announce"}, standing)

    def leave(self) -> None:
        """Tell the roster that this trainer ends and wants no more runs."""
        self._ask({"op": "leave"})

    def close(self) -> None:
        """End it from this side."""
        self._wanted = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _tell(self, header: Header, body: bytes = b"") -> None:
        with self._request:
            self._send(header, body)

    def _send(self, header: Header, body: bytes) -> None:
        try:
            send(self._socket, header, body)
        except OSError as error:
            raise ExchangeAwayError("The server is gone.") from error

    def _ask(self, header: Header, body: bytes = b"") -> tuple[Header, bytes]:
        with self._request, self._answered:
            self._send(header, body)
            self._answered.wait_for(lambda: self._answer is not None or self._closed)
            answer, self._answer = self._answer, None
        if answer is None:
            raise ExchangeAwayError("The server is gone.")
        if answer[0].get("error"):
            raise ExchangeFullError("The exchange has no room for this.")
        return answer

    def _read(self) -> None:
        try:
            while (frame := receive(self._socket, MAX_ANSWER_BYTES)) is not None:
                with self._answered:
                    self._answer = frame
                    self._answered.notify_all()
        except (OSError, ExchangeError) as error:
            if not self._wanted:
                log.warning("exchange_broken", error=type(error).__name__)
        with self._answered:
            self._closed = True
            self._answered.notify_all()
        self._socket.close()
        if self._on_close is not None and not self._wanted:
            self._on_close()
