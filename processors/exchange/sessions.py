"""What one client of the hub may ask for, and how it is answered."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar

from processors.exchange.errors import ExchangeError, ExchangeFullError
from processors.exchange.frames import pack, send, send_within
from processors.exchange.limits import ID_BYTES, MAX_ANSWER_BYTES, MAX_FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from processors.exchange.frames import Header
    from processors.exchange.hub import Hub
    from processors.exchange.streams import LocalReader

Answer = tuple[dict[str, Any], bytes]
_OK: Answer = ({"ok": True}, b"")
_FULL: Answer = ({"error": "full"}, b"")


class Session:
    """A client's connection. One thread takes its frames; any thread may answer."""

    bodies: ClassVar[Mapping[str, Callable[[Hub], int]]] = {
        "put_input": lambda hub: hub.limits.one_input_bytes,
        "put_result": lambda hub: hub.limits.one_result_bytes,
        "stream": lambda _: MAX_FRAME_BYTES,
        "measures": lambda _: MAX_FRAME_BYTES,
        "announce": lambda _: MAX_FRAME_BYTES,
    }

    def __init__(self, hub: Hub, end: socket.socket) -> None:
        self._hub = hub
        self._end = end
        self._sending = threading.Lock()

    def longest(self, op: str) -> int:
        """How long the body of a request may be."""
        return self.bodies[op](self._hub) if op in self.bodies else 0

    def refused(self, op: str) -> int:
        """How long a body may be that is too long and yet no reason to disconnect."""
        return MAX_ANSWER_BYTES if op == "put_input" else 0

    def answer(self, header: Header, body: bytes = b"") -> None:
        """Send a frame."""
        with self._sending:
            send(self._end, header, body)

    def take(self, header: Header, body: bytes) -> None:
        """Do what a frame asks for.

        Raises:
            ExchangeError, ValueError, TypeError: it is not what such a client may ask for.
        """
        answer = self._of(header, body)
        if answer is not None:
            self.answer(*answer)

    def close(self) -> None:
        """The connection is gone."""

    def _of(self, header: Header, body: bytes) -> Answer | None:
        op = header["op"]
        if op == "put_input":
            return self._put_input(_id(header), body)
        if op == "put_result":
            self._hub.put_result(_id(header), body)
        elif op == "drop_input":
            self._hub.drop_input(_id(header))
        elif op == "has_input":
            return {"found": self._hub.has_input(_id(header))}, b""
        elif op == "input":
            return _found(self._hub.input(_id(header)))
        else:
            raise ExchangeError("A client asked for something that the exchange does not know.")
        return _OK

    def _put_input(self, operation_id: bytes, data: bytes) -> Answer:
        try:
            self._hub.put_input(operation_id, data)
        except ExchangeFullError:
            return _FULL
        return _OK


class TrainerSession(Session):
    """A trainer."""

    def __init__(self, hub: Hub, end: socket.socket, worker: str) -> None:
        super().__init__(hub, end)
        self._trainer = hub.attach(worker)

    def take(self, header: Header, body: bytes) -> None:
        """Do what a trainer's frame asks for."""
        answer = self._of(header, body)
        self._hub.passed(len(body), len(answer[1]) if answer else 0)
        if answer is not None:
            self.answer(*answer)

    def close(self) -> None:
        """The trainer is gone."""
        self._hub.detach(self._trainer)

    def _of(self, header: Header, body: bytes) -> Answer | None:
        match header["op"]:
            case "stream":
                self._trainer.stream(_id(header), body)
                return None
            case "end_stream":
                self._trainer.end_stream(_id(header))
                return None
            case "ready":
                self._hub.ready(self._trainer)
            case "measures":
                self._trainer.measures(body)
            case "announce":
                self._trainer.announce(body)
            case "leave":
                self._trainer.leave()
            case _:
                return super()._of(header, body)
        return _OK


class DoorSession(Session):
    """A process of doors. What it listens to is sent by a thread of its own, which alone waits for a slow reader."""

    def __init__(self, hub: Hub, end: socket.socket) -> None:
        super().__init__(hub, end)
        send_within(end, hub.limits.deaf_seconds)
        self._changed = threading.Condition()
        self._readers: dict[int, LocalReader] = {}
        self._news: set[int] = set()
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Nobody listens any more."""
        with self._changed:
            self._closed = True
            readers, self._readers = self._readers, {}
            self._changed.notify_all()
        for reader in readers.values():
            reader.close()
        if self._thread is not None:
            self._thread.join()  # the socket is shut: nothing that it sends blocks

    def _of(self, header: Header, body: bytes) -> Answer | None:
        match header["op"]:
            case "salt" | "result":
                find = self._hub.salt if header["op"] == "salt" else self._hub.result
                return _found(find(_id(header)))
            case "inputs_older_than":
                return {"ok": True}, b"".join(self._hub.inputs_older_than(float(header["seconds"])))
            case "figures":
                return {"ok": True}, json.dumps(asdict(self._hub.figures())).encode()
            case "listen":
                return self._listen(_number(header), _id(header))
            case "unlisten":
                self._unlisten(_number(header))
                return None
            case _:
                return super()._of(header, body)

    def _listen(self, number: int, operation_id: bytes) -> Answer:
        with self._changed:
            if number in self._readers or len(self._readers) >= self._hub.limits.listening:
                return _FULL
            if self._thread is None:
                self._thread = threading.Thread(target=self._tell, name="exchange-streams", daemon=True)
                self._thread.start()
        reader = self._hub.stream_reader(operation_id, lambda: self._touched(number))
        with self._changed:
            self._readers[number] = reader
        self._touched(number)
        return {"ok": True, "begin": reader.begin}, b""

    def _unlisten(self, number: int) -> None:
        with self._changed:
            reader = self._readers.pop(number, None)
        if reader is not None:
            reader.close()

    def _touched(self, number: int) -> None:
        with self._changed:
            self._news.add(number)
            self._changed.notify_all()

    def _tell(self) -> None:
        try:
            while (number := self._next()) is not None:
                self._tell_of(number)
        except OSError:
            with suppress(OSError):
                self._end.shutdown(socket.SHUT_RDWR)  # so that the thread that takes frames notices as well

    def _next(self) -> int | None:
        """A reader with news, waiting for one; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._news)
            return None if self._closed else self._news.pop()

    def _tell_of(self, number: int) -> None:
        with self._changed:
            reader = self._readers.get(number)
        if reader is None:
            return
        frames = reader.read() or []
        ended = reader.over
        if not frames and not ended:
            return
        first = reader.position - len(frames)
        about = {"first": first, "ended": ended, "lost": reader.lost}
        self.answer({"op": "frames", "reader": number, **about}, pack(frames))
        if ended:
            self._unlisten(number)


def _id(header: Header) -> bytes:
    found = bytes.fromhex(header["id"])
    if len(found) != ID_BYTES:
        raise ExchangeError("What is asked for has no operation's id.")
    return found


def _number(header: Header) -> int:
    number = header["reader"]
    if not isinstance(number, int) or not 0 <= number < 1 << 63:
        raise ExchangeError("What is asked for has no reader's number.")
    return number


def _found(data: bytes | None) -> Answer:
    return {"found": data is not None}, data or b""
