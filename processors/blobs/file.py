"""Blobs as files below one folder: written beside their place, synced, renamed, and the folder synced."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

from processors.blobs.port import BlobError, BlobNotFoundError, StorageFullError, check_name
from producers.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNFINISHED = ".part-"


class FileBlobStore:
    """A folder of blobs; any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def put(self, name: str) -> Iterator[BinaryIO]:
        """See :class:`processors.blobs.port.BlobStore`."""
        path = self._path(name)
        part = path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
        with _storage_errors():
            _make_folder(path.parent, self.root)
            with _created(part) as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
                part.replace(path)
            sync_folder(path.parent)

    def open(self, name: str) -> BinaryIO:
        """See :class:`processors.blobs.port.BlobStore`."""
        with _absence():
            return self._path(name).open("rb")

    def size(self, name: str) -> int:
        """See :class:`processors.blobs.port.BlobStore`."""
        with _absence():
            return self._path(name).stat().st_size

    def exists(self, name: str) -> bool:
        """See :class:`processors.blobs.port.BlobStore`."""
        return self._path(name).is_file()

    def delete(self, name: str) -> None:
        """See :class:`processors.blobs.port.BlobStore`."""
        path = self._path(name)
        with suppress(FileNotFoundError):
            path.unlink()
            self._fold_up(path.parent)

    def _fold_up(self, folder: Path) -> None:
        """Take a folder away that nothing is in any more; those right below the root stay, for others write there."""
        if self.root not in (folder, folder.parent):
            with suppress(OSError):
                folder.rmdir()
                folder = folder.parent
        sync_folder(folder)

    def list(self, prefix: str = "") -> Sequence[str]:
        """See :class:`processors.blobs.port.BlobStore`."""
        files = (path for path in self.root.rglob("*") if path.is_file() and not path.name.startswith("."))
        names = (path.relative_to(self.root).as_posix() for path in files)
        return sorted(name for name in names if name.startswith(prefix))

    def sweep(self) -> int:
        """Remove what writers left that were killed; how many. Files of living writers stay."""
        orphans = [part for part in self.root.rglob(f"{_UNFINISHED}*") if _remove_if_orphaned(part)]
        for part in orphans:
            self._fold_up(part.parent)
        return len(orphans)

    def _path(self, name: str) -> Path:
        return self.root.joinpath(*check_name(name))


@contextmanager
def _created(part: Path) -> Iterator[BinaryIO]:
    """A new file, locked as long as its writer lives, gone if the block fails."""
    try:
        with part.open("xb") as out:
            fcntl.flock(out, fcntl.LOCK_EX)
            yield out
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _remove_if_orphaned(part: Path) -> bool:
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _make_folder(folder: Path, root: Path) -> None:
    """Make a folder below the root, each new level durable in the one above it."""
    missing = [level for level in (folder, *folder.parents) if level.is_relative_to(root) and not level.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for level in missing:
        sync_folder(level.parent)


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, BlobError):
            raise
        if error.errno in _FULL:
            raise StorageFullError("There is no space left for a blob.") from error
        raise BlobError(f"A blob could not be written ({errno.errorcode.get(error.errno or 0, 'unknown')}).") from error


@contextmanager
def _absence() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        if isinstance(error, BlobError):
            raise
        raise BlobNotFoundError("There is no blob of that name.") from error
