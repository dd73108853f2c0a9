"""The bytes of a package's ZIP, as a pure function of its entries' names, sizes and checksums.

There is one way only to write a package: entries stored without compression, sorted by name, dated 1980-01-01,
mode 0644, no comments, no data descriptors, ZIP64 fields exactly where a number does not fit. A reader computes these
bytes and compares, so local and central headers agree, nothing stands between entries, and nothing follows the end.
Layout: PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16, 4.5.3.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.tgsp.errors import PackageMalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ENTRIES = 64
MAX_SIZE = 1 << 44
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

LOCAL = struct.Struct("<IHHHHHIIIHH")
CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
END64 = struct.Struct("<IQHHIIQQQQ")
LOCATOR = struct.Struct("<IIQI")
END = struct.Struct("<IHHHHIIH")
LOCAL_MAGIC, CENTRAL_MAGIC, END64_MAGIC, LOCATOR_MAGIC, END_MAGIC = (
    0x04034B50,
    0x02014B50,
    0x06064B50,
    0x07064B50,
    0x06054B50,
)
ZIP64_EXTRA = 0x0001
FULL = 0xFFFFFFFF
DATE = 0x0021
MODE = 0o100644 << 16
UNIX = 3 << 8
VERSION, VERSION64 = 10, 45


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored file: name, size in bytes, CRC-32 of its content."""

    name: str
    size: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands: per entry the local header and where its content starts; then the directory."""

    headers: tuple[bytes, ...]
    starts: tuple[int, ...]
    directory_at: int
    tail: bytes

    @property
    def size(self) -> int:
        """The size of the whole file."""
        return self.directory_at + len(self.tail)


def layout(entries: Sequence[Entry]) -> Layout:
    """The one layout of these entries.

    Raises:
        PackageMalformedError: names are not strictly ascending or not allowed, or there is too much.
    """
    _check(entries)
    headers, starts, records, at = [], [], [], 0
    for entry in entries:
        header = _local(entry)
        records.append(_central(entry, at))
        headers.append(header)
        starts.append(at + len(header))
        at += len(header) + entry.size
    directory = b"".join(records)
    return Layout(tuple(headers), tuple(starts), at, directory + _end(len(entries), len(directory), at))


def _check(entries: Sequence[Entry]) -> None:
    names = [entry.name for entry in entries]
    if len(names) > MAX_ENTRIES or sum(entry.size for entry in entries) > MAX_SIZE:
        raise PackageMalformedError("A package has too many entries, or too large ones.")
    if not all(NAME.fullmatch(name) for name in names) or names != sorted(set(names)):
        raise PackageMalformedError("A package's entry names are not plain, sorted and all different.")


def _local(entry: Entry) -> bytes:
    extra = _extra64(entry.size, entry.size) if entry.size >= FULL else b""
    size = min(entry.size, FULL)
    name = entry.name.encode()
    fixed = (LOCAL_MAGIC, _version(extra), 0, 0, 0, DATE, entry.crc32, size, size, len(name), len(extra))
    return LOCAL.pack(*fixed) + name + extra


def _central(entry: Entry, at: int) -> bytes:
    large = (entry.size, entry.size) if entry.size >= FULL else ()
    far = (at,) if at >= FULL else ()
    extra = _extra64(*large, *far) if large or far else b""
    size, offset, name, version = min(entry.size, FULL), min(at, FULL), entry.name.encode(), _version(extra)
    flags_to_crc = (0, 0, 0, DATE, entry.crc32)
    lengths = (len(name), len(extra), 0, 0, 0)
    fixed = (CENTRAL_MAGIC, UNIX | version, version, *flags_to_crc, size, size, *lengths, MODE, offset)
    return CENTRAL.pack(*fixed) + name + extra


def _end(count: int, size: int, at: int) -> bytes:
    ending = END.pack(END_MAGIC, 0, 0, count, count, size, min(at, FULL), 0)
    if at < FULL:
        return ending
    rest = END64.size - 12
    record = END64.pack(END64_MAGIC, rest, UNIX | VERSION64, VERSION64, 0, 0, count, count, size, at)
    return record + LOCATOR.pack(LOCATOR_MAGIC, 0, at + size, 1) + ending


def _extra64(*values: int) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", ZIP64_EXTRA, 8 * len(values), *values)


def _version(extra: bytes) -> int:
    return VERSION64 if extra else VERSION
