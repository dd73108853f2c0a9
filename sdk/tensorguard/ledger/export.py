"""The export directory: what an auditor gets, and all that the verifier reads.

    DIR/trust-root.json
    DIR/chains/<chain>/records      each record as uint16 (big endian) length and its bytes
    DIR/chains/<chain>/checkpoint   the newest signed note; absent when there is none yet

Reading streams: no more than a block of a chain is in memory.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tensorguard.ledger.errors import ExportError
from tensorguard.ledger.format import MAX_RECORD_BYTES
from tensorguard.ledger.note import MAX_NOTE_BYTES

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

TRUST_ROOT = "trust-root.json"
CHAINS = "chains"
RECORDS = "records"
CHECKPOINT = "checkpoint"
PLATFORM = "platform"
_CHAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LENGTH_BYTES = 2
_BLOCK_BYTES = 1 << 20


def is_chain_name(name: str) -> bool:
    """Whether a chain may have this name."""
    return _CHAIN.fullmatch(name) is not None


class ExportWriter:
    """Writes an export into a new or empty directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with reported("The export directory cannot be made."):
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise ExportError(f"{directory} is not empty.", next_step="Export into a new directory.")

    def write_trust_root(self, data: bytes) -> None:
        """Store the trust root, byte for byte."""
        with reported("The trust root cannot be written."):
            (self._directory / TRUST_ROOT).write_bytes(data)

    def write_chain(self, chain: str, records: Iterable[bytes], checkpoint: bytes | None) -> int:
        """Store a chain's records and its newest checkpoint; the number of records written.

        Take the checkpoint before the records: one that covers more than is written reads as a truncated export.

        Raises:
            ExportError: no chain has that name, a record has no possible length, or the disk refuses.
        """
        if not is_chain_name(chain):
            raise ExportError("A chain cannot be exported under its name: it is no chain name.")
        with reported(f"Chain {chain!r} cannot be written."):
            directory = self._directory / CHAINS / chain
            directory.mkdir(parents=True)
            count = _write_records(directory / RECORDS, records)
            if checkpoint is not None:
                (directory / CHECKPOINT).write_bytes(checkpoint)
        return count


def frame(data: bytes) -> bytes:
    """A record behind its length, as exports hold it.

    Raises:
        ExportError: no record has that length.
    """
    if not 0 < len(data) <= MAX_RECORD_BYTES:
        raise ExportError(f"A record of {len(data)} bytes cannot be exported.")
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def _write_records(path: Path, records: Iterable[bytes]) -> int:
    count = 0
    with path.open("wb", buffering=_BLOCK_BYTES) as out:
        for data in records:
            out.write(frame(data))
            count += 1
    return count


class ExportReader:
    """Reads an export; symbolic links and entries that the layout does not know are refused."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with reported("The export cannot be opened."):
            if not directory.is_dir():
                raise ExportError(f"{directory} is no directory.")

    def trust_root(self) -> bytes:
        """The bytes of the trust root.

        Raises:
            ExportError: there is none.
        """
        return read_small(self._directory / TRUST_ROOT)

    def chains(self) -> tuple[str, ...]:
        """The names of the chains, sorted.

        Raises:
            ExportError: there are none, or an entry that the layout does not know.
        """
        directory = self._directory / CHAINS
        with reported("The export has no chains that can be read."):
            entries = sorted(directory.iterdir())
            if not entries:
                raise ExportError("The export has no chains.")
            for entry in entries:
                _check_chain(entry)
        return tuple(entry.name for entry in entries)

    def checkpoint(self, chain: str) -> bytes | None:
        """The signed note of a chain, if it has one.

        Raises:
            ExportError: it cannot be read.
        """
        path = self._directory / CHAINS / chain / CHECKPOINT
        return read_small(path) if os.path.lexists(path) else None

    def signer(self, chain: str) -> bytes | None:  # noqa: ARG002 -- an export of tiles has one
        """The verifier key that lies beside a chain's checkpoint: none in this layout."""
        return None

    def records(self, chain: str) -> Iterator[bytes]:
        """The records of a chain, in order.

        Raises:
            ExportError: the file ends within a record, or cannot be read.
        """
        with (
            reported(f"The records of chain {chain!r} cannot be read."),
            (self._directory / CHAINS / chain / RECORDS).open("rb") as source,
        ):
            rest = b""
            while block := source.read(_BLOCK_BYTES):
                rest = yield from split_records(rest + block)
            if rest:
                raise ExportError(f"The records of chain {chain!r} end within a record.")


def split_records(block: bytes) -> Generator[bytes, None, bytes]:
    """The whole records of a block; returns what is left over.

    Raises:
        ExportError: a record of no bytes.
    """
    offset, end = 0, len(block)
    while offset + _LENGTH_BYTES <= end:
        length = int.from_bytes(block[offset : offset + _LENGTH_BYTES], "big")
        if length == 0:
            raise ExportError("An export holds a record of no bytes.")
        start = offset + _LENGTH_BYTES
        if start + length > end:
            break
        yield block[start : start + length]
        offset = start + length
    return block[offset:]


def _check_chain(entry: Path) -> None:
    if entry.is_symlink() or not entry.is_dir() or not is_chain_name(entry.name):
        raise ExportError(f"The export holds something under {CHAINS}/ that is no chain.")
    found = {child.name for child in entry.iterdir()}
    links = any(child.is_symlink() or not child.is_file() for child in entry.iterdir())
    if links or not {RECORDS} <= found <= {RECORDS, CHECKPOINT}:
        raise ExportError(f"Chain {entry.name!r} of the export has no records, or holds an unknown entry.")


def read_small(path: Path) -> bytes:
    """A small file of an export.

    Raises:
        ExportError: it is missing, too large or no plain file.
    """
    with reported(f"{path.name} of the export cannot be read."):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_NOTE_BYTES:
            raise ExportError(f"{path.name} of the export is missing, too large or no plain file.")
        return path.read_bytes()


@contextmanager
def reported(detail: str) -> Iterator[None]:
    """Turn what the file system refuses into an ``ExportError``."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"{detail} ({error.strerror})") from error
