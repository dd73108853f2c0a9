"""Request bodies as they come in: counted, and decompressed piece by piece, never further than a body may go.

A body is one stream in gzip (RFC 1952) or one zstd frame (RFC 8878), as its Content-Encoding says.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Protocol

import zstandard

from api.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

ENCODINGS = "gzip, zstd"
"""What is taken, in the words of an Accept-Encoding header; ``identity`` is taken everywhere."""
MAX_RATIO = 256
"""A body of more than ``RATIO_FROM`` bytes that shrank further than this is no batch: token ids shrink to a fifth."""
RATIO_FROM = 4 << 20
_GZIP = 16 + zlib.MAX_WBITS
_MAX_WINDOW = 8 << 20
_ZSTD_BLOCK = 128 << 10
_LEAST_BLOCK_BYTES = 4
_LEAST_SLICE = 16


class Decompressor(Protocol):
    """One stream, decompressed as it comes."""

    def take(self, data: bytes, room: int) -> bytes:
        """What a piece gives; more than ``room`` bytes of it only to show that there are more.

        Raises:
            ValueError: it is no such stream, or goes on behind its end.
        """

    @property
    def ended(self) -> bool:
        """Whether the stream is whole."""


class RequestBody:
    """The body of one request."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], limit: int) -> None:
        self._encoding = _encoding(headers)
        self._limit = limit
        self._stream = _STREAMS[self._encoding]() if self._encoding in _STREAMS else None
        self._came_in = self._came_out = 0

    def take(self, data: bytes, *, last: bool) -> bytes:
        """What the next piece of the body stands for.

        Raises:
            ApiError: unsupported_encoding, malformed_encoding or body_too_large.
        """
        if self._stream is None:
            raise ApiError("unsupported_encoding", "The body's Content-Encoding is not one that is taken here.")
        self._came_in += len(data)
        try:
            out = self._stream.take(data, self._limit - self._came_out)
        except (ValueError, zlib.error, zstandard.ZstdError) as error:
            raise _malformed(self._encoding) from error
        self._came_out += len(out)
        self._check_size()
        if last and self._came_in and not self._stream.ended:
            raise _malformed(self._encoding)
        return out

    def _check_size(self) -> None:
        if max(self._came_in, self._came_out) > self._limit:
            raise ApiError("body_too_large", f"A body may have {self._limit} bytes, decompressed.")
        if self._came_out > RATIO_FROM and self._came_out > MAX_RATIO * self._came_in:
            raise ApiError("body_too_large", f"A large body may not shrink to less than a {MAX_RATIO}th of its size.")


class _Identity:
    ended = True

    def take(self, data: bytes, room: int) -> bytes:  # noqa: ARG002 -- what came in is there already
        return data


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)

    @property
    def ended(self) -> bool:
        return self._stream.eof

    def take(self, data: bytes, room: int) -> bytes:
        if self._stream.eof and data:
            raise ValueError("bytes behind the stream's end")
        out = self._stream.decompress(data, room + 1)
        if self._stream.unused_data:
            raise ValueError("bytes behind the stream's end")
        return out


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).decompressobj()

    @property
    def ended(self) -> bool:
        return bool(self._stream.eof)

    def take(self, data: bytes, room: int) -> bytes:
        out, rest, left = [], memoryview(data), room
        while rest and left >= 0:
            if self._stream.eof:
                raise ValueError("bytes behind the frame's end")
            piece, rest = rest[: _slice(left)], rest[_slice(left) :]
            out.append(self._stream.decompress(piece))
            left -= len(out[-1])
        if self._stream.unused_data:
            raise ValueError("bytes behind the frame's end")
        return b"".join(out)


def _slice(room: int) -> int:
    """How many bytes may go in so that little more than ``room`` comes out: a block of 4 bytes can give 128 KiB."""
    return max(_LEAST_SLICE, room * _LEAST_BLOCK_BYTES // _ZSTD_BLOCK)


_STREAMS: dict[str, type[_Identity | _Gzip | _Zstd]] = {
    "": _Identity,
    "identity": _Identity,
    "gzip": _Gzip,
    "x-gzip": _Gzip,
    "zstd": _Zstd,
}


def _encoding(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """All codings of a request; two in a row are none that is taken."""
    named = [value.decode("latin-1") for name, value in headers if name == b"content-encoding"]
    return ",".join(named).strip().lower()


def _malformed(encoding: str) -> ApiError:
    return ApiError("malformed_encoding", f"The body is not one whole {encoding or 'identity'} stream.")
