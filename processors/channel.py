"""The side channel: batches, prompts and completions between doors and trainer, in memory, never on the ledger.

The parent keeps a :class:`SideChannel`; a child reaches it by one end of a socket pair that it inherits. Frames are
``uint32 header length || JSON header || uint64 body length || body``, big-endian. Requests of the child:
``{"op": "input", "id": hex}`` (answer ``{"found": bool}`` and the body), ``{"op": "drop", "id": hex}``,
``{"op": "result", "id": hex}`` with a body, ``{"op": "ready", "worker": id}``, ``{"op": "standing", "worker": id}``
with a body and ``{"op": "leave", "worker": id}``, ``{"op": "measures"}`` with a body (see ``measures.py``; each
answered ``{"ok": true}``). Not answered: ``{"op": "stream", "id": hex}`` with a body, a frame of
the operation's stream, and its ``{"op": "end", "id": hex}``.
An input is ``salt (32) || canonical bytes``. A fetched input is kept until it is dropped.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from tensorguard.commitment import SALT_BYTES

from processors.errors import ChannelClosedError, ChannelError, ChannelFullError
from processors.streams import StreamReader, Streams

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_HEADER_BYTES = 4096
MAX_BODY_BYTES = 256 << 20
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Bounds in bytes and seconds: inputs that wait, one input, results that are kept, and for how long."""

    input_bytes: int = 512 << 20
    one_input_bytes: int = 64 << 20
    result_bytes: int = 128 << 20
    result_seconds: float = 3600.0


def pack_input(salt: bytes, canonical: bytes) -> bytes:
    """What is put into the channel for an operation."""
    return salt + canonical


def unpack_input(data: bytes) -> tuple[bytes, bytes]:
    """Salt and canonical bytes of an input."""
    return data[:SALT_BYTES], data[SALT_BYTES:]


@dataclass
class Connection:
    """One child's end and what is known of the child. Pass ``child`` on by ``pass_fds``, then close it here."""

    child: socket.socket
    server: socket.socket = field(repr=False)
    ready: threading.Event = field(default_factory=threading.Event, repr=False)
    closed: threading.Event = field(default_factory=threading.Event, repr=False)
    streaming: set[bytes] = field(default_factory=set, repr=False)
    worker: str | None = None

    def close(self) -> None:
        """End it; the child notices."""
        # A plain close would leave the serving thread in its blocked read.
        try:
            self.server.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.closed.set()
        self.child.close()


class Listener(Protocol):
    """Who is told what passes; from the threads that serve the children."""

    def passed(self, received: int, sent: int) -> None:
        """So many bytes of a child's request and of its answer."""

    def measured(self, connection: Connection, data: bytes) -> None:
        """A child reported measures."""

    def gone(self, connection: Connection) -> None:
        """A child is gone."""


class RosterListener(Protocol):
    """Who is told of the trainers that are there; from the threads that serve them."""

    def announced(self, worker: str, standing: bytes) -> None:
        """A trainer says how it stands."""

    def left(self, worker: str) -> None:
        """A trainer ends and wants no more runs."""

    def trainer_gone(self, worker: str) -> None:
        """The connection of a trainer is gone."""


class SideChannel:
    """The parent's end. Every method may be called from any thread.

    The frames of streams are numbered from ``first_frame`` on: each process takes another number, so that no listener
    takes its frames for those of a process before it.
    """

    def __init__(
        self,
        limits: ChannelLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        first_frame: int = 0,
    ) -> None:
        self.limits = limits or ChannelLimits()
        self.listener: Listener | None = None
        self.roster: RosterListener | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._inputs: dict[bytes, bytes] = {}
        self._input_bytes = 0
        self._results: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._result_bytes = 0
        self._streams = Streams(begin=first_frame)

    def put_input(self, operation_id: bytes, data: bytes) -> None:
        """Keep an operation's input (see :func:`pack_input`) until it is dropped; the same id again replaces it.

        Raises:
            ChannelFullError: it is too large, or too much waits already.
        """
        with self._lock:
            total = self._input_bytes - len(self._inputs.get(operation_id, b"")) + len(data)
            if len(data) > self.limits.one_input_bytes or total > self.limits.input_bytes:
                raise ChannelFullError("The inputs that wait in memory leave no room for this one.")
            self._inputs[operation_id] = data
            self._input_bytes = total

    def input(self, operation_id: bytes) -> bytes | None:
        """An operation's input, if it is here."""
        with self._lock:
            return self._inputs.get(operation_id)

    def has_input(self, operation_id: bytes) -> bool:
        """Whether an operation's input is here."""
        return self.input(operation_id) is not None

    def drop_input(self, operation_id: bytes) -> None:
        """Forget an operation's input, if it is here."""
        with self._lock:
            self._input_bytes -= len(self._inputs.pop(operation_id, b""))

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of inputs that wait."""
        with self._lock:
            return self._input_bytes

    @property
    def result_bytes(self) -> int:
        """Bytes of results that are kept."""
        with self._lock:
            return self._result_bytes

    def put_result(self, operation_id: bytes, data: bytes) -> None:
        """Keep a result for its time; the oldest give way when there are too many bytes."""
        with self._lock:
            self._forget_result(operation_id)
            self._results[operation_id] = (self._clock() + self.limits.result_seconds, data)
            self._result_bytes += len(data)
            self._evict()

    def result(self, operation_id: bytes) -> bytes | None:
        """An operation's result, if it is still here."""
        with self._lock:
            self._evict()
            held = self._results.get(operation_id)
            return held[1] if held else None

    def _forget_result(self, operation_id: bytes) -> None:
        held = self._results.pop(operation_id, None)
        self._result_bytes -= len(held[1]) if held else 0

    def _evict(self) -> None:
        now = self._clock()
        while self._results:
            oldest = next(iter(self._results))
            if self._results[oldest][0] > now and self._result_bytes <= self.limits.result_bytes:
                return
            self._forget_result(oldest)

    def stream_reader(self, operation_id: bytes, notify: Callable[[], None] | None = None) -> StreamReader:
        """A reader of what an operation under way streams; see :meth:`processors.streams.Streams.reader`."""
        return self._streams.reader(operation_id, notify)

    def connect(self) -> Connection:
        """A new socket pair, served by a thread of its own until either end closes."""
        server, child = socket.socketpair()
        connection = Connection(child, server)
        threading.Thread(target=self._serve, args=(connection,), name="side-channel", daemon=True).start()
        return connection

    def _serve(self, connection: Connection) -> None:
        try:
            while (frame := _receive(connection.server)) is not None:
                if (answer := self._answer(connection, *frame)) is not None:
                    _send(connection.server, *answer)
                if self.listener is not None:
                    self.listener.passed(len(frame[1]), len(answer[1]) if answer else 0)
        except (OSError, ChannelError, ValueError, KeyError, TypeError) as error:
            log.warning("side_channel_broken", error=type(error).__name__)
        finally:
            self._streams.lose(connection.streaming)
            connection.server.close()
            connection.closed.set()
            if self.listener is not None:
                self.listener.gone(connection)
            if self.roster is not None and connection.worker is not None:
                self.roster.trainer_gone(connection.worker)

    def _answer(
        self, connection: Connection, header: dict[str, Any], body: bytes
    ) -> tuple[dict[str, Any], bytes] | None:
        match header["op"]:
            case "stream":
                connection.streaming.add(operation_id := bytes.fromhex(header["id"]))
                self._streams.append(operation_id, body)
                return None
            case "end":
                connection.streaming.discard(operation_id := bytes.fromhex(header["id"]))
                self._streams.end(operation_id)
                return None
            case "input":
                data = self.input(bytes.fromhex(header["id"]))
                return {"found": data is not None}, data or b""
            case "drop":
                self.drop_input(bytes.fromhex(header["id"]))
            case "result":
                self.put_result(bytes.fromhex(header["id"]), body)
            case "ready":
                connection.ready.set()
            case "standing" | "leave":
                self._tell_roster(connection, header, body)
            case "measures" if self.listener is not None:
                self.listener.measured(connection, body)
            case "measures":
                pass
            case _:
                raise ChannelError("A child asked for something that the side channel does not know.")
        return {"ok": True}, b""

    def _tell_roster(self, connection: Connection, header: dict[str, Any], body: bytes) -> None:
        connection.worker = str(header["worker"])
        if self.roster is None:
            return
        if header["op"] == "leave":
            self.roster.left(connection.worker)
        else:
            self.roster.announced(connection.worker, body)


class ChannelClient:
    """The child's end. ``on_close`` is called once, from a thread of its own, when the parent is gone.

    Requests may come from any thread; one is under way at a time.
    """

    def __init__(self, end: socket.socket | int, on_close: Callable[[], None] | None = None) -> None:
        self._socket = end if isinstance(end, socket.socket) else socket.socket(fileno=end)
        self._on_close = on_close
        self._request = threading.Lock()
        self._answered = threading.Condition()
        self._answer: tuple[dict[str, Any], bytes] | None = None
        self._closed = False
        threading.Thread(target=self._read, name="side-channel", daemon=True).start()

    def input(self, operation_id: bytes) -> bytes | None:
        """An operation's input, or None if the parent no longer has it.

        Raises:
            ChannelClosedError: the parent is gone; so with every other request.
        """
        header, body = self._ask({"op": "input", "id": operation_id.hex()})
        return body if header["found"] else None

    def drop_input(self, operation_id: bytes) -> None:
        """Let the parent forget an input."""
        self._ask({"op": "drop", "id": operation_id.hex()})

    def put_result(self, operation_id: bytes, data: bytes) -> None:
        """Hand a result over; it is with the parent when this returns."""
        self._ask({"op": "result", "id": operation_id.hex()}, data)

    def stream(self, operation_id: bytes, data: bytes) -> None:
        """Send a frame of an operation's stream, without waiting for anybody to have it."""
        self._tell({"op": "stream", "id": operation_id.hex()}, data)

    def end_stream(self, operation_id: bytes) -> None:
        """End an operation's stream; no error if it streamed nothing."""
        self._tell({"op": "end", "id": operation_id.hex()})

    def report(self, measures: bytes) -> None:
        """Tell the parent what was measured (see :class:`processors.measures.Measures`)."""
        self._ask({"op": "measures"}, measures)

    def announce(self, worker: str, standing: bytes) -> None:
        """Tell the parent how this trainer stands."""
        self._ask({"op": "standing", "worker": worker}, standing)

    def leave(self, worker: str) -> None:
        """Tell the parent that this trainer ends and wants no more runs."""
        self._ask({"op": "leave", "worker": worker})

    def ready(self, worker: str) -> None:
        """Tell the parent that operations can be executed now."""
        self._ask({"op": "ready", "worker": worker})

    def close(self) -> None:
        """End it from this side."""
        self._closed = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("side_channel_already_closed")

    def _tell(self, header: dict[str, Any], body: bytes = b"") -> None:
        with self._request:
            self._send(header, body)

    def _send(self, header: dict[str, Any], body: bytes) -> None:
        try:
            _send(self._socket, header, body)
        except OSError as error:
            raise ChannelClosedError("The server is gone.") from error

    def _ask(self, header: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        with self._request, self._answered:
            self._send(header, body)
            self._answered.wait_for(lambda: self._answer is not None or self._closed)
            answer, self._answer = self._answer, None
            if answer is None:
                raise ChannelClosedError("The server is gone.")
            return answer

    def _read(self) -> None:
        try:
            while (frame := _receive(self._socket)) is not None:
                with self._answered:
                    self._answer = frame
                    self._answered.notify_all()
        except (OSError, ChannelError, ValueError) as error:
            log.warning("side_channel_broken", error=type(error).__name__)
        wanted, self._closed = self._closed, True
        with self._answered:
            self._answered.notify_all()
        if self._on_close is not None and not wanted:
            self._on_close()


def _send(end: socket.socket, header: dict[str, Any], body: bytes) -> None:
    text = json.dumps(header, separators=(",", ":")).encode()
    end.sendall(len(text).to_bytes(4, "big") + text + len(body).to_bytes(8, "big"))
    if body:
        end.sendall(body)


def _receive(end: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    first = end.recv(4)
    if not first:
        return None
    header = _exactly(end, _bounded(first + _exactly(end, 4 - len(first)), MAX_HEADER_BYTES))
    body = _exactly(end, _bounded(_exactly(end, 8), MAX_BODY_BYTES))
    value = json.loads(header)
    if not isinstance(value, dict):
        raise ChannelError("A frame's header is no JSON object.")
    return value, body


def _bounded(prefix: bytes, limit: int) -> int:
    size = int.from_bytes(prefix, "big")
    if size > limit:
        raise ChannelError(f"A frame of {size} bytes is over the limit of {limit}.")
    return size


def _exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = end.recv_into(view)
        if not count:
            raise ChannelError("The other end closed in the middle of a frame.")
        view = view[count:]
    return bytes(data)
