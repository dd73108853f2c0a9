"""Advisory file locks between processes: the kernel gives them back when their holder dies."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOOK_SECONDS = 0.02
_FLOCK = struct.Struct("hhqqi")
"""``struct flock``: type, whence, start, length, process id."""


class FileLock:
    """An exclusive ``flock``; two objects exclude each other also inside one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        return self._acquire(fcntl.LOCK_EX | fcntl.LOCK_NB)

    def try_share(self) -> bool:
        """Take the lock together with whoever shares it, if nobody holds it alone."""
        return self._acquire(fcntl.LOCK_SH | fcntl.LOCK_NB)

    def acquire(self) -> None:
        """Take the lock, waiting for its holder."""
        self._acquire(fcntl.LOCK_EX)

    def _acquire(self, how: int) -> bool:
        if self._fd is not None:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lock back."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file; it is not made where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def numbered(path: Path, number: int, seconds: float) -> Iterator[bool]:
    """Hold one of the many locks of a file, 0 to 2^62 - 1, for the length of a block; whether that is so.

    They exclude each other between processes and inside one (Linux: a lock of an open file description on one byte).

    It is not where somebody else still holds it after so many seconds. The kernel would wait for ever, and a holder
    may stand still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + seconds
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while not (ours := _locked(fd, number)) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        yield ours
    finally:
        os.close(fd)


def _locked(fd: int, number: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, number, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file for the length of a block, waiting for it first."""
    lock = FileLock(path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()
