"""Reading an export of tiles: one C2SP tlog-tiles log a chain, beside the trust root.

    DIR/trust-root.json
    DIR/<chain>/checkpoint      the signed note that says how many records the log has
    DIR/<chain>/signer.pub      the verifier key of its Ed25519 signature
    DIR/<chain>/tile/…          tiles of hashes, and bundles of entries under tile/entries

Reading streams: no more than a bundle and the open tiles of a chain are in memory.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from tensorguard.ledger.checkpoint import Checkpoint
from tensorguard.ledger.errors import ExportError, LedgerError, RuleBrokenError
from tensorguard.ledger.export import CHAINS, CHECKPOINT, TRUST_ROOT, is_chain_name, read_small, reported, split_records
from tensorguard.ledger.format import MAX_RECORD_BYTES
from tensorguard.ledger.merkle import HASH_BYTES, leaf_hash
from tensorguard.ledger.note import Note
from tensorguard.ledger.tiles import FOLDER, WIDTH, Tile, TileTree, bundle_path, tile_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SIGNER = "signer.pub"
_MAX_BUNDLE_BYTES = WIDTH * (2 + MAX_RECORD_BYTES)


def holds_tiles(directory: Path) -> bool:
    """Whether a directory is an export of tiles rather than one of records."""
    # os.path answers where a path's own methods raise, e.g. for a folder that may not be entered.
    if os.path.isdir(directory / CHAINS) and not os.path.isfile(directory / CHAINS / SIGNER):  # noqa: PTH112, PTH113
        return False
    with suppress(OSError):
        return any(os.path.isfile(entry / name) for entry in directory.iterdir() for name in (SIGNER, CHECKPOINT))  # noqa: PTH113
    return False


def log_folders(directory: Path) -> list[LogFolder]:
    """The logs of an export, sorted. Whatever else lies in its directory is ignored.

    Raises:
        ExportError: one is no log, or the directory cannot be read.
    """
    with reported("The export has no logs that can be read."):
        entries = sorted(entry for entry in directory.iterdir() if is_chain_name(entry.name))
        logs = [LogFolder(entry) for entry in entries if entry.is_dir() or entry.is_symlink()]
    for log in logs:
        log.check_layout()
    return logs


class LogFolder:
    """The files of one log. They are read only below its own folder: no symbolic link leads out of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check_layout(self) -> None:
        """Refuse whatever is no log.

        Raises:
            ExportError: a symbolic link, or an entry that the layout does not know.
        """
        with reported(f"The log {self.path.name!r} cannot be read."):
            plain = self.path.is_dir() and not self.path.is_symlink()
            if not plain or not all(_belongs(entry) for entry in self.path.iterdir()):
                raise ExportError(f"{self.path.name!r} of the export is no log, or holds an unknown entry.")

    def checkpoint(self) -> bytes | None:
        """The signed note, if there is one.

        Raises:
            ExportError: it cannot be read.
        """
        path = self.path / CHECKPOINT
        return read_small(path) if os.path.lexists(path) else None

    def hashes(self, level: int, index: int, width: int) -> bytes:
        """The first hashes of a tile, from its partial file or from the full one that came after it.

        Raises:
            ExportError: it is missing, has another length, or cannot be read.
        """
        for held in (width, WIDTH):
            path = tile_path(level, index, held)
            if (data := self._read(path, WIDTH * HASH_BYTES)) is not None:
                if len(data) != held * HASH_BYTES:
                    raise ExportError(f"{path} of the log {self.path.name!r} does not hold {held} hashes.")
                return data[: width * HASH_BYTES]
        raise ExportError(f"{tile_path(level, index, width)} of the log {self.path.name!r} is missing.")

    def entries(self, index: int, width: int) -> Sequence[bytes]:
        """The first entries of a bundle, likewise.

        Raises:
            ExportError: as above.
        """
        for held in (width, WIDTH):
            path = bundle_path(index, held)
            if (data := self._read(path, _MAX_BUNDLE_BYTES)) is not None:
                found, rest = _unbundle(data)
                if rest or len(found) != held:
                    raise ExportError(f"{path} of the log {self.path.name!r} does not hold {held} whole entries.")
                return found[:width]
        raise ExportError(f"{bundle_path(index, width)} of the log {self.path.name!r} is missing.")

    def _read(self, name: str, limit: int) -> bytes | None:
        path = self.path / name
        with reported(f"{name} of the log {self.path.name!r} cannot be read."):
            if not os.path.lexists(path):
                return None
            inside = os.path.realpath(path) == os.path.join(os.path.realpath(self.path), *name.split("/"))  # noqa: PTH118
            if not inside or not path.is_file() or path.stat().st_size > limit:
                raise ExportError(f"{name} of the log {self.path.name!r} is too large or no plain file.")
            return path.read_bytes()


class TilesReader:
    """Reads an export of tiles as :class:`ExportReader` reads one of records."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def trust_root(self) -> bytes:
        """The bytes of the trust root.

        Raises:
            ExportError: there is none.
        """
        return read_small(self._directory / TRUST_ROOT)

    def chains(self) -> tuple[str, ...]:
        """The names of the chains, sorted.

        Raises:
            ExportError: one is no log.
        """
        return tuple(log.path.name for log in log_folders(self._directory))

    def checkpoint(self, chain: str) -> bytes | None:
        """The signed note of a chain, if it has one.

        Raises:
            ExportError: it cannot be read.
        """
        return self._log(chain).checkpoint()

    def signer(self, chain: str) -> bytes | None:
        """The verifier key that lies beside a chain's checkpoint.

        Raises:
            ExportError: there is none.
        """
        return read_small(self._directory / chain / SIGNER)

    def records(self, chain: str) -> Iterator[bytes]:
        """The records of a chain, in order, as many as its checkpoint says (which this does not check).

        Raises:
            ExportError: a file is missing or damaged.
            RuleBrokenError: behind the last record: a tile does not hold the hashes of what is below it.
        """
        log = self._log(chain)
        tree, tiles = TileTree(), _TileCheck(log)
        for index, width in _bundles(self._size(log)):
            for data in log.entries(index, width):
                tiles.check(tree.append(leaf_hash(data)))
                yield data
        tiles.check(tree.partial())
        tiles.end()

    def _log(self, chain: str) -> LogFolder:
        return LogFolder(self._directory / chain)

    def _size(self, log: LogFolder) -> int:
        note = log.checkpoint()
        if note is None:
            raise ExportError(f"Without its checkpoint nobody knows how long the log {log.path.name!r} is.")
        try:
            return Checkpoint.from_text(Note.from_bytes(note).text).size
        except LedgerError as error:
            raise ExportError(f"The checkpoint of the log {log.path.name!r} does not say how long it is.") from error


class _TileCheck:
    """Compares tiles with their files, and keeps what it found until the records are read."""

    def __init__(self, log: LogFolder) -> None:
        self._log = log
        self._problem: LedgerError | None = None

    def check(self, tiles: Sequence[Tile] | Iterator[Tile]) -> None:
        for tile in tiles:
            if self._problem is None:
                self._problem = self._compare(tile)

    def end(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _compare(self, tile: Tile) -> LedgerError | None:
        try:
            held = self._log.hashes(tile.level, tile.index, tile.width)
        except ExportError as error:
            return error
        detail = f"{tile.path} does not hold the hashes of what is below it."
        return None if held == tile.hashes else RuleBrokenError("wrong_tile", detail)


def _bundles(size: int) -> Iterator[tuple[int, int]]:
    """Index and width of every bundle of a log of that size."""
    full, rest = divmod(size, WIDTH)
    yield from ((index, WIDTH) for index in range(full))
    if rest:
        yield full, rest


def _unbundle(data: bytes) -> tuple[list[bytes], bytes]:
    found, records = [], split_records(data)
    while True:
        try:
            found.append(next(records))
        except StopIteration as end:
            return found, end.value


def _belongs(entry: Path) -> bool:
    if entry.is_symlink():
        return False
    return entry.is_dir() if entry.name == FOLDER else entry.name in {CHECKPOINT, SIGNER} and entry.is_file()
