"""The hub's socket: who connects, what each may ask for, and how much of it.

The first frame of a connection is ``{"op": "hello", "as": "trainer", "worker": id}`` or ``{"op": "hello", "as":
"door"}``. What is asked then names what it is about by ``"id"``, in hex, and is answered in its turn (``{"ok": true}``,
``{"found": bool}`` with a body, ``{"error": "full"}``), but for what a trainer tells while it generates. What a door
listens to is sent to it as it comes: ``{"op": "frames", "reader": number, "first": number, "ended":
bool, "lost": bool}`` with the frames. A reader that is slow holds up itself alone: what waits for it gives way at the
hub. Whoever sends anything else is disconnected.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import structlog

from processors.exchange import address
from processors.exchange.arriving import Arriving
from processors.exchange.errors import ExchangeError
from processors.exchange.frames import drain, receive, receive_body, receive_header
from processors.exchange.sessions import DoorSession, Session, TrainerSession

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processors.exchange.hub import Hub

HELLO_SECONDS = 10.0
PAUSE_SECONDS = 0.2
JOIN_SECONDS = 5.0
MAX_WORKER = 256
log = structlog.get_logger(__name__)


@contextmanager
def listening(hub: Hub, data_dir: Path) -> Iterator[None]:
    """Serve a hub on the socket of its data directory for the length of a block.

    Raises:
        ExchangeTakenError: another process holds the hub.
        ExchangeError: there can be no socket in the data directory.
    """
    with address.listening(data_dir) as listener:
        server = _Server(hub, listener)
        server.start()
        try:
            yield
        finally:
            server.close()


class _Server:
    """Accepts connections, and serves each in a thread of its own."""

    def __init__(self, hub: Hub, listener: socket.socket) -> None:
        self._hub = hub
        self._listener = listener
        self._arriving = Arriving(hub.limits.arriving_bytes)
        self._lock = threading.Lock()
        self._ends: dict[socket.socket, threading.Thread] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="exchange", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Disconnect everybody."""
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(JOIN_SECONDS)
        self._arriving.close()
        with self._lock:
            ends = dict(self._ends)
        for end in ends:
            _shut(end)
        for thread in ends.values():
            thread.join(JOIN_SECONDS)

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                end, _ = self._listener.accept()
            except OSError as error:  # the listener was shut, or there are no descriptors left for now
                if not self._stop.is_set():
                    log.warning("exchange_cannot_accept", error=type(error).__name__)
                    self._stop.wait(PAUSE_SECONDS)
                continue
            if not self._admit(end):
                end.close()

    def _admit(self, end: socket.socket) -> bool:
        if not address.same_user(end):
            log.warning("exchange_stranger")
            return False
        with self._lock:
            if len(self._ends) >= self._hub.limits.connections:
                log.warning("exchange_connections_full")
                return False
            thread = threading.Thread(target=self._serve, args=(end,), name="exchange-client", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the machine has no room for another thread
                log.warning("exchange_threads_full")
                return False
            self._ends[end] = thread
        return True

    def _serve(self, end: socket.socket) -> None:
        session: Session | None = None
        try:
            session = self._greet(end)
            if session is not None:
                session.answer({"ok": True})
            while session is not None and self._answer(end, session):
                pass
        except (OSError, ExchangeError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("exchange_client_broken", error=type(error).__name__)
        finally:
            _shut(end)
            try:
                if session is not None:
                    session.close()
            finally:
                with self._lock:
                    del self._ends[end]
                end.close()

    def _greet(self, end: socket.socket) -> Session | None:
        """Who it is; None if it left without a word."""
        end.settimeout(HELLO_SECONDS)
        frame = receive(end, 0)
        end.settimeout(None)
        if frame is None:
            return None
        header = frame[0]
        if header["op"] != "hello":
            raise ExchangeError("A client asked for something before it said who it is.")
        return self._session(end, header)

    def _session(self, end: socket.socket, header: dict[str, object]) -> Session:
        worker = header.get("worker")
        if header["as"] == "door":
            return DoorSession(self._hub, end)
        if header["as"] == "trainer" and isinstance(worker, str) and 0 < len(worker) <= MAX_WORKER:
            return TrainerSession(self._hub, end, worker)
        raise ExchangeError("A client is neither a door nor a trainer with a name.")

    def _answer(self, end: socket.socket, session: Session) -> bool:
        """Take one frame and answer it; False where the client closed instead."""
        begun = receive_header(end, self._hub.limits.stall_seconds)
        if begun is None:
            return False
        header, size = begun
        longest = session.longest(str(header["op"]))
        if longest < size <= session.refused(str(header["op"])):
            drain(end, size)
            session.answer({"error": "full"})
            return True
        with self._arriving.room(min(size, longest)):
            session.take(header, receive_body(end, size, longest))
        return True


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
