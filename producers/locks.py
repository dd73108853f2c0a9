"""Advisory file locks between processes: the kernel gives them back when their holder dies.

They are those of Linux for an open file description (``F_OFD_SETLK``, see fcntl(2)): two objects exclude each other
also inside one process, and whether one is held can be asked without taking it for a moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOOK_SECONDS = 0.02
_FLOCK = struct.Struct("hhqqi")
"""``struct flock``: type, whence, start, length, process id."""
_HELD = frozenset({errno.EAGAIN, errno.EACCES})


class FileLock:
    """One lock of a file; ``number``, 0 to 2^62 - 1, says which of its many."""

    def __init__(self, path: Path, number: int = 0) -> None:
        self.path = path
        self._number = number
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it."""
        return self._acquire(fcntl.F_OFD_SETLK, fcntl.F_WRLCK)

    def try_share(self) -> bool:
        """Take the lock together with whoever shares it, if nobody holds it alone."""
        return self._acquire(fcntl.F_OFD_SETLK, fcntl.F_RDLCK)

    def acquire(self) -> None:
        """Take the lock, waiting for its holder."""
        self._acquire(fcntl.F_OFD_SETLKW, fcntl.F_WRLCK)

    def acquire_within(self, seconds: float) -> bool:
        """Take the lock; not if somebody else still holds it after so many seconds, since a holder may stand still."""
        deadline = time.monotonic() + seconds
        while not self.try_acquire():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)  # The kernel would wait for ever.
        return True

    def _acquire(self, command: int, kind: int) -> bool:
        if self._fd is not None:
            return True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.fcntl(fd, command, _flock(kind, self._number))
        except BaseException as error:
            os.close(fd)
            if isinstance(error, OSError) and error.errno in _HELD:
                return False
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lock back."""
        fd, self._fd = self._fd, None
        if fd is not None:
            # A child that is being started has the descriptor too until it runs: to close ours is not enough.
            with suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, self._number))
            os.close(fd)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of a file; it is not made where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, 0))
    finally:
        os.close(fd)
    return bool(_FLOCK.unpack(found)[0] != fcntl.F_UNLCK)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file for the length of a block, waiting for it first."""
    lock = FileLock(path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _flock(kind: int, number: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, number, 1, 0)
