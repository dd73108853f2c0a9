"""Parts of files over HTTP: one byte range (RFC 9110 §14), if what the client has is still the same file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

_RANGE = re.compile(r"bytes=(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})?|-(?P<suffix>[0-9]{1,18}))")


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from ``start`` up to ``end`` of a file of ``size``; ``whole`` if nobody asked for less."""

    start: int
    end: int
    size: int
    whole: bool

    @property
    def status(self) -> int:
        """The status of an answer with this part."""
        return 200 if self.whole else 206

    def headers(self, etag: str) -> Mapping[str, str]:
        """What an answer with this part says of it; ``etag`` is a strong validator, quoted."""
        told = {"Accept-Ranges": "bytes", "ETag": etag, "Content-Length": str(self.end - self.start)}
        place = {"Content-Range": f"bytes {self.start}-{self.end - 1}/{self.size}"}
        return told if self.whole else {**told, **place}


def part_of(size: int, etag: str, wanted: str | None, condition: str | None) -> Part:
    """The part of a file that a request is for, by its ``Range`` and ``If-Range``.

    What is no single range of bytes asks for the whole, and so does a range of another file than this one.

    Raises:
        ApiError: range_not_satisfiable, the file ends before it.
    """
    found = _RANGE.fullmatch(wanted.replace(" ", "")) if wanted else None
    if found is None or condition not in (None, etag):
        return Part(0, size, size, whole=True)
    if found["suffix"]:
        start, end = max(0, size - int(found["suffix"])), size
    else:
        start, end = int(found["first"]), min(size, int(found["last"]) + 1 if found["last"] else size)
        if found["last"] and int(found["last"]) < start:
            return Part(0, size, size, whole=True)
    if start >= end:
        told = {"Content-Range": f"bytes */{size}"}
        raise ApiError("range_not_satisfiable", f"The file has {size} bytes.", headers=told)
    return Part(start, end, size, whole=False)
