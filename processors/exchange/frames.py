"""Frames on a socket: ``uint32 header length || JSON header || uint64 body length || body``, big-endian."""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING, Any

from processors.exchange.errors import ExchangeError
from processors.exchange.limits import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Header = dict[str, Any]
_PIECE = 1 << 20
_LENGTH = 4


def send(end: socket.socket, header: Header, body: bytes = b"") -> None:
    """Send a frame.

    Raises:
        OSError: the other end is gone.
    """
    text = json.dumps(header, separators=(",", ":")).encode()
    end.sendall(len(text).to_bytes(4, "big") + text + len(body).to_bytes(8, "big"))
    if body:
        end.sendall(body)


def receive(end: socket.socket, longest: int) -> tuple[Header, bytes] | None:
    """The next frame, with a body of at most so many bytes; None where the other end closed between frames.

    Raises:
        OSError, ExchangeError: the other end is gone, or sends what is no frame.
    """
    begun = receive_header(end)
    if begun is None:
        return None
    header, size = begun
    return header, receive_body(end, size, longest)


def receive_header(end: socket.socket, stall: float = 0.0) -> tuple[Header, int] | None:
    """The header of the next frame and the size of its body, which is to be received next.

    From the first byte on the other end may stand still for ``stall`` seconds at most.

    Raises:
        OSError, ExchangeError: the other end is gone, or sends what is no frame.
    """
    _wait_at_most(end, 0.0)
    first = end.recv(_LENGTH)
    if not first:
        return None
    _wait_at_most(end, stall)
    size = int.from_bytes(first + _exactly(end, _LENGTH - len(first)), "big")
    if size > MAX_HEADER_BYTES:
        raise ExchangeError(f"A frame's header of {size} bytes is over the limit of {MAX_HEADER_BYTES}.")
    try:
        value = json.loads(_exactly(end, size))
    except (ValueError, RecursionError) as error:
        raise ExchangeError("A frame's header is no JSON.") from error
    if not isinstance(value, dict):
        raise ExchangeError("A frame's header is no JSON object.")
    return value, int.from_bytes(_exactly(end, 8), "big")


def receive_body(end: socket.socket, size: int, longest: int) -> bytes:
    """A frame's body. Memory is taken as bytes arrive, not as they were announced.

    Raises:
        OSError, ExchangeError: the other end is gone, or the body is over the limit.
    """
    if size > longest:
        raise ExchangeError(f"A frame of {size} bytes is over the limit of {longest}.")
    return _exactly(end, size)


def drain(end: socket.socket, size: int) -> None:
    """Receive a body that there is no room for.

    Raises:
        OSError, ExchangeError: the other end is gone.
    """
    while size:
        size -= len(_exactly(end, min(size, _PIECE)))


def pack(frames: Iterable[bytes]) -> bytes:
    """Several frames of a stream as one body."""
    return b"".join(len(each).to_bytes(_LENGTH, "big") + each for each in frames)


def unpack(body: bytes) -> Iterator[bytes]:
    """The frames of a body."""
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + _LENGTH], "big")
        at += _LENGTH + size
        yield body[at - size : at]


def send_within(end: socket.socket, seconds: float) -> None:
    """Let a send fail that nobody takes anything of for so many seconds."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))


def _wait_at_most(end: socket.socket, seconds: float) -> None:
    """Bound each receive, and no send; 0 for no bound."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("ll", whole, int((seconds - whole) * 1e6))


def _exactly(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = end.recv(min(size - len(data), _PIECE))
        if not piece:
            raise ExchangeError("The other end closed in the middle of a frame.")
        data += piece
    return bytes(data)
