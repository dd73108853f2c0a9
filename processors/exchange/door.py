"""The exchange behind a socket, for doors in a process of their own; connected again whenever the hub comes back."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, Self

import structlog

from processors.exchange.address import connected
from processors.exchange.connection import Connection
from processors.exchange.errors import ExchangeAwayError, ExchangeError, ExchangeFullError
from processors.exchange.limits import ID_BYTES
from processors.exchange.measured import Histogram
from processors.exchange.port import Figures
from processors.exchange.readers import RemoteReader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from processors.exchange.frames import Header

PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
log = structlog.get_logger(__name__)


class DoorClient:
    """An :class:`~processors.exchange.port.Exchange` behind a data directory's socket; any thread may call.

    While no hub answers, everything that needs it fails at once with ExchangeAwayError, and streams break off.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._changed = threading.Condition()
        self._connection: Connection | None = None
        self._under_way: Connection | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="exchange", daemon=True)
        self._thread.start()

    def put_input(self, operation_id: bytes, data: bytes) -> None:
        """Keep an operation's input until it is dropped; the same id again replaces it, unless it was dropped.

        Raises:
            ExchangeFullError: it is too large, or too much waits already.
        """
        self._ask("put_input", operation_id, data)

    def input(self, operation_id: bytes) -> bytes | None:
        """An operation's input, if it is at the hub."""
        return self._find("input", operation_id)

    def has_input(self, operation_id: bytes) -> bool:
        """Whether an operation's input is at the hub."""
        return bool(self._ask("has_input", operation_id)[0]["found"])

    def drop_input(self, operation_id: bytes) -> None:
        """Forget an operation's input, if it is there, for good: its salt alone stays known for a while."""
        self._ask("drop_input", operation_id)

    def inputs_older_than(self, seconds: float) -> Sequence[bytes]:
        """The operations whose inputs have been there for longer, the oldest first."""
        _, body = _checked(self._current().ask({"op": "inputs_older_than", "seconds": seconds}))
        return [body[at : at + ID_BYTES] for at in range(0, len(body), ID_BYTES)]

    def salt(self, operation_id: bytes) -> bytes | None:
        """The salt of an input that is or was there, as long as it is remembered."""
        return self._find("salt", operation_id)

    def put_result(self, operation_id: bytes, data: bytes) -> None:
        """Keep a result for its time."""
        self._ask("put_result", operation_id, data)

    def result(self, operation_id: bytes) -> bytes | None:
        """An operation's result, if it is still there."""
        return self._find("result", operation_id)

    def stream_reader(self, operation_id: bytes, notify: Callable[[], None] | None = None) -> RemoteReader:
        """A reader of what an operation under way streams; it blocks until the hub knows of it.

        Raises:
            ExchangeFullError: this process listens to too many streams.
        """
        connection = self._current()
        number, reader = connection.reader(notify)
        try:
            header, _ = _checked(connection.ask({"op": "listen", "id": operation_id.hex(), "reader": number}))
        except ExchangeError:
            reader.close()
            raise
        reader.begun(int(header["begin"]))
        return reader

    def figures(self) -> Figures:
        """How the hub stands."""
        _, body = _checked(self._current().ask({"op": "figures"}))
        return _figures(json.loads(body))

    def reachable(self) -> bool:
        """Whether the hub answers now."""
        try:
            self.figures()
        except ExchangeAwayError:
            return False
        return True

    def wait_connected(self, timeout: float) -> bool:
        """Block until there is a connection, at most so many seconds; whether there is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._connection is not None and not self._connection.over, timeout)

    def wait_lost(self, timeout: float) -> bool:
        """Block until there is no connection, at most so many seconds; whether there is none."""
        with self._changed:
            return self._changed.wait_for(lambda: self._connection is None, timeout)

    def close(self) -> None:
        """Disconnect for good."""
        self._stop.set()
        with self._changed:
            connection = self._under_way
        if connection is not None:
            connection.end()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, op: str, operation_id: bytes) -> bytes | None:
        header, body = self._ask(op, operation_id)
        return body if header["found"] else None

    def _ask(self, op: str, operation_id: bytes, body: bytes = b"") -> tuple[Header, bytes]:
        return _checked(self._current().ask({"op": op, "id": operation_id.hex()}, body))

    def _current(self) -> Connection:
        with self._changed:
            if self._connection is None or self._connection.over:
                raise ExchangeAwayError("The exchange does not answer.")
            return self._connection

    # -- the thread that keeps a connection ----------------------------------------------------------------------

    def _keep(self) -> None:
        failures = 0
        while not self._stop.is_set():
            if self._connect_and_read():
                failures = 0
            self._stop.wait(PAUSES[min(failures, len(PAUSES) - 1)])
            failures += 1

    def _connect_and_read(self) -> bool:
        """Connect and serve the connection until it ends; whether the hub answered."""
        try:
            connection = Connection(connected(self._data_dir), self._greeted)
        except (ExchangeError, RuntimeError):  # no hub, or no room for another thread
            return False
        with self._changed:
            self._under_way = connection
        try:
            if not self._stop.is_set():
                connection.serve()
        finally:
            connection.close()
            with self._changed:
                there, self._connection = self._connection, None
                self._changed.notify_all()
        if there is not None and not self._stop.is_set():
            log.warning("exchange_lost")
        return there is not None

    def _greeted(self, connection: Connection) -> None:
        with self._changed:
            self._connection = connection
            self._changed.notify_all()
        log.info("exchange_connected")


def _checked(answer: tuple[Header, bytes]) -> tuple[Header, bytes]:
    if answer[0].get("error"):
        raise ExchangeFullError("The inputs that wait in memory leave no room for this one.")
    return answer


def _figures(value: dict[str, Any]) -> Figures:
    times = {name: Histogram(tuple(each["counts"]), each["total"]) for name, each in value.pop("times").items()}
    return Figures(**{**value, "ready": tuple(value["ready"]), "times": times})
