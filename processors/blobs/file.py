"""Blobs as files below one folder: written beside their place, synced, renamed, and the folder synced."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from processors.blobs.port import BlobError, BlobNotFoundError, StorageFullError, check_name
from producers.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_UNFINISHED = ".part-"
_BLOCK = 1 << 20
_ATTEMPTS = 8


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
            with self._created(part) as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
                part.replace(path)
            sync_folder(path.parent)

    def create(self, name: str, data: bytes) -> bool:
        """See :class:`processors.blobs.port.BlobStore`."""
        path = self._path(name)
        part = path.with_name(f"{_UNFINISHED}{secrets.token_hex(8)}")
        with _storage_errors(), self._created(part) as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
            try:
                path.hardlink_to(part)
            except FileExistsError:
                return False
            finally:
                part.unlink()
            sync_folder(path.parent)
        return True

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

    def destroy(self, name: str) -> None:
        """See :class:`processors.blobs.port.BlobStore`."""
        path = self._path(name)
        if path.is_file():
            with _storage_errors():
                _overwrite(path)
            self.delete(name)

    def delete_below(self, folder: str) -> None:
        """See :class:`processors.blobs.port.BlobStore`."""
        top = self._path(folder)
        found = [self._path(name) for name in self.list(f"{folder}/")]
        for path in found:
            path.unlink(missing_ok=True)
        for level in sorted({top, *(path.parent for path in found)}, reverse=True):
            self._fold_up(level)

    def _fold_up(self, folder: Path) -> None:
        """Take folders away that nothing is in any more; those right below the root stay, for others write there."""
        while self.root not in (folder, folder.parent):
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                break
            folder = folder.parent
        with suppress(FileNotFoundError):
            sync_folder(folder)

    def list(self, prefix: str = "") -> Sequence[str]:
        """See :class:`processors.blobs.port.BlobStore`."""
        # A folder may be folded up while it is looked at, which os.walk takes for an empty one.
        walk = os.walk(self.root / prefix.rpartition("/")[0])
        files = (Path(folder, name) for folder, _, names in walk for name in names if not name.startswith("."))
        found = (path.relative_to(self.root).as_posix() for path in files)
        return sorted(name for name in found if name.startswith(prefix))

    def sweep(self) -> int:
        """Remove what writers left that were killed; how many. Files of living writers stay."""
        walk = os.walk(self.root)
        parts = [Path(folder, name) for folder, _, names in walk for name in names if name.startswith(_UNFINISHED)]
        orphans = [part for part in parts if _remove_if_orphaned(part)]
        for part in orphans:
            self._fold_up(part.parent)
        return len(orphans)

    def _path(self, name: str) -> Path:
        return self.root.joinpath(*check_name(name))

    @contextmanager
    def _created(self, part: Path) -> Iterator[BinaryIO]:
        """A new file, locked as long as its writer lives, gone if the block fails."""
        try:
            with self._locked(part) as out:
                yield out
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _locked(self, part: Path) -> BinaryIO:
        """A new file under its lock.

        Its folder may be folded up just after it was made, and the file swept just before it is locked: then again.
        """
        for _ in range(_ATTEMPTS):
            try:
                _make_folder(part.parent, self.root)
                out = part.open("xb")
            except (FileNotFoundError, FileExistsError):  # taken away since it was made, or since it was found there
                continue
            fcntl.flock(out, fcntl.LOCK_EX)
            if os.fstat(out.fileno()).st_nlink:
                return out
            out.close()
        raise BlobError("A blob's folder is taken away again and again.")


def _overwrite(path: Path) -> None:
    """Zeros over all bytes of a file, durably."""
    with suppress(FileNotFoundError), path.open("r+b") as file:
        left = path.stat().st_size
        while left:
            left -= file.write(bytes(min(left, _BLOCK)))
        file.flush()
        os.fsync(file.fileno())


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
