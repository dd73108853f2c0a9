"""Writing and reading the container: sequential out, strict in."""

from __future__ import annotations

import io
import os
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO

from tensorguard.tgsp.container import (
    CENTRAL,
    CENTRAL_MAGIC,
    END,
    END64,
    END64_MAGIC,
    END_MAGIC,
    FULL,
    LOCATOR,
    LOCATOR_MAGIC,
    MAX_ENTRIES,
    MAX_SIZE,
    Entry,
    Layout,
    layout,
)
from tensorguard.tgsp.errors import PackageDamagedError, PackageMalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BLOCK = 1 << 20
_MAX_TAIL = MAX_ENTRIES * (CENTRAL.size + 64 + 28) + END64.size + LOCATOR.size + END.size


@dataclass(frozen=True, slots=True)
class Content:
    """What an entry will hold: bytes, or a file of known size and CRC-32 that is read from its start."""

    entry: Entry
    source: BinaryIO

    @classmethod
    def of(cls, name: str, data: bytes) -> Content:
        """Content that is in memory."""
        return cls(Entry(name, len(data), zlib.crc32(data)), io.BytesIO(data))


def write(out: BinaryIO, contents: Sequence[Content]) -> bytes:
    """Write a container; SHA-256 of the whole file.

    Raises:
        PackageMalformedError: names that no container has.
        PackageDamagedError: a source is not as long as was said, or its checksum is another.
    """
    ordered = sorted(contents, key=lambda content: content.entry.name)
    plan, digest = layout([content.entry for content in ordered]), sha256()
    for header, content in zip(plan.headers, ordered, strict=True):
        for block in (header, *_checked(content)):
            out.write(block)
            digest.update(block)
    out.write(plan.tail)
    digest.update(plan.tail)
    return digest.digest()


def _checked(content: Content) -> Iterator[bytes]:
    content.source.seek(0)
    crc, left = 0, content.entry.size
    while left and (block := content.source.read(min(BLOCK, left))):
        crc, left = zlib.crc32(block, crc), left - len(block)
        yield block
    if left or crc != content.entry.crc32:
        raise PackageDamagedError("A package's content changed while it was packed.")


class Container:
    """An open container whose structure is proven; contents are read on demand and checked then."""

    def __init__(self, file: BinaryIO) -> None:
        """Check everything but the contents themselves.

        Raises:
                PackageMalformedError: it is not in the one allowed form.
        """
        self._file = file
        self.size = file.seek(0, os.SEEK_END)
        entries, tail = _directory(file, self.size)
        plan = layout(entries)
        _compare(file, self.size, plan, tail)
        self.entries: Mapping[str, tuple[Entry, int]] = {
            entry.name: (entry, start) for entry, start in zip(entries, plan.starts, strict=True)
        }

    def read(self, name: str, limit: int) -> bytes:
        """A small entry's content.

        Raises:
            PackageMalformedError: there is none, or it is larger than the limit in bytes; nothing was read then.
            PackageDamagedError: its checksum is wrong.
        """
        entry, start = self._find(name)
        if entry.size > limit:
            raise PackageMalformedError(f"The package's {name} has {entry.size} bytes; {limit} are allowed.")
        self._file.seek(start)
        data = self._file.read(entry.size)
        if zlib.crc32(data) != entry.crc32:
            raise PackageDamagedError(f"The package's {name} does not have its checksum.")
        return data

    def digest(self, name: str) -> bytes:
        """SHA-256 of an entry's content; raises what :meth:`read` raises."""
        entry, start = self._find(name)
        self._file.seek(start)
        digest, crc, left = sha256(), 0, entry.size
        while left and (block := self._file.read(min(BLOCK, left))):
            digest.update(block)
            crc, left = zlib.crc32(block, crc), left - len(block)
        if left or crc != entry.crc32:
            raise PackageDamagedError(f"The package's {name} does not have its checksum.")
        return digest.digest()

    def section(self, name: str) -> Section:
        """An entry as something to read from; one at a time."""
        entry, start = self._find(name)
        return Section(self._file, start, entry.size)

    def file_digest(self) -> bytes:
        """SHA-256 of the whole file."""
        self._file.seek(0)
        digest = sha256()
        while block := self._file.read(BLOCK):
            digest.update(block)
        return digest.digest()

    def _find(self, name: str) -> tuple[Entry, int]:
        if name not in self.entries:
            raise PackageMalformedError(f"The package has no {name}.")
        return self.entries[name]


class Section:
    """A part of a file, read forwards."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._left = file, size
        file.seek(start)

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill a buffer from the front; how many bytes were there."""
        block = self._file.read(min(len(buffer), self._left))
        buffer[: len(block)] = block
        self._left -= len(block)
        return len(block)


def _directory(file: BinaryIO, size: int) -> tuple[list[Entry], bytes]:
    """The entries that the central directory lists, and its bytes with everything behind them."""
    count, length, at = _ending(file, size)
    if count > MAX_ENTRIES or not 0 <= size - at <= _MAX_TAIL or length > size - at:
        raise PackageMalformedError("A package's directory is larger than a package's can be, or lies elsewhere.")
    file.seek(at)
    tail = file.read(size - at)
    return _parse(tail[:length], count), tail


def _ending(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Number of entries, size and place of the central directory."""
    if not END.size <= size <= MAX_SIZE + _MAX_TAIL:
        raise PackageMalformedError(f"A file of {size} bytes is no package.")
    fields = END.unpack(_at(file, size - END.size, END.size))
    if fields[0] != END_MAGIC:
        raise PackageMalformedError("The file does not end as a package does: it is cut, or something follows.")
    _, _, _, _, count, length, at, _ = fields
    if at != FULL:
        return count, length, at
    locator_at = size - END.size - LOCATOR.size
    if locator_at < END64.size or LOCATOR.unpack(_at(file, locator_at, LOCATOR.size))[0] != LOCATOR_MAGIC:
        raise PackageMalformedError("A large package lacks its ZIP64 end.")
    record = END64.unpack(_at(file, locator_at - END64.size, END64.size))
    if record[0] != END64_MAGIC:
        raise PackageMalformedError("A large package lacks its ZIP64 end.")
    return record[7], record[8], record[9]


def _parse(directory: bytes, count: int) -> list[Entry]:
    entries, at = [], 0
    for _ in range(count):
        if at + CENTRAL.size > len(directory):
            raise PackageMalformedError("A package's directory ends inside an entry.")
        fields = CENTRAL.unpack_from(directory, at)
        crc, size, name_length, extra_length = fields[7], fields[9], fields[10], fields[11]
        end = at + CENTRAL.size + name_length + extra_length
        if fields[0] != CENTRAL_MAGIC or end > len(directory):
            raise PackageMalformedError("A package's directory holds something that is no entry.")
        name = directory[at + CENTRAL.size : end - extra_length]
        extra = directory[end - extra_length : end]
        entries.append(Entry(_name(name), _size(size, extra), crc))
        at = end
    return entries


def _name(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise PackageMalformedError("An entry's name is not ASCII.") from error


def _size(size: int, extra: bytes) -> int:
    """The size, from the ZIP64 field when it does not fit; that the field is right, the comparison shows."""
    return int.from_bytes(extra[4:12], "little") if size == FULL else size


def _compare(file: BinaryIO, size: int, plan: Layout, tail: bytes) -> None:
    if size < plan.size:
        raise PackageMalformedError(f"The package has {size} of {plan.size} bytes.")
    if size != plan.size or tail != plan.tail:
        raise PackageMalformedError("A package's directory is not written in the one allowed way.")
    for header, start in zip(plan.headers, plan.starts, strict=True):
        if _at(file, start - len(header), len(header)) != header:
            raise PackageMalformedError("An entry's own header is not what the directory says.")


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
