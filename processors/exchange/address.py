"""Where the hub of a data directory listens: a Unix socket that only its owner reaches, however long the path is.

The name of a socket has room for 107 bytes. Both ends therefore name it by a descriptor of its folder.
"""

from __future__ import annotations

import os
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

from processors.exchange.errors import ExchangeAwayError, ExchangeError, ExchangeTakenError
from producers.locks import FileLock
from producers.secretfiles import private_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME, LOCK = "exchange.sock", "exchange.lock"
CONNECT_SECONDS = 5.0
_BACKLOG = 64
_PEER = struct.Struct("3i")


@contextmanager
def listening(data_dir: Path) -> Iterator[socket.socket]:
    """The hub's socket; what a killed hub left behind is replaced.

    Raises:
        ExchangeTakenError: another process holds the hub.
        ExchangeError: there can be no socket in the data directory.
    """
    folder = data_dir / "run"
    private_folder(folder)
    lock = FileLock(folder / LOCK)
    if not lock.try_acquire():
        raise ExchangeTakenError("Another process holds the exchange of this data dir.")
    try:
        (folder / NAME).unlink(missing_ok=True)
        with _bound(folder) as listener:
            yield listener
    finally:
        (folder / NAME).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _bound(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            with _named(folder) as name:
                listener.bind(name)
            (folder / NAME).chmod(0o600)
            listener.listen(_BACKLOG)  # nobody connects before this
        except OSError as error:
            raise ExchangeError(f"There can be no socket in {folder} ({error.strerror}).") from error
        yield listener


def connected(data_dir: Path) -> socket.socket:
    """A connection to the hub of a data directory.

    Raises:
        ExchangeAwayError: there is none, or it is somebody else's.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.settimeout(CONNECT_SECONDS)
        with _named(data_dir / "run") as name:
            end.connect(name)
        end.settimeout(None)
        ours = same_user(end)
    except OSError as error:
        end.close()
        raise ExchangeAwayError("The exchange of this data dir does not answer.") from error
    if not ours:
        end.close()
        raise ExchangeAwayError("The exchange of this data dir is another user's.")
    return end


def same_user(end: socket.socket) -> bool:
    """Whether the process at the other end runs as our user, as the kernel says."""
    _, user, _ = _PEER.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return bool(user == os.geteuid())


@contextmanager
def _named(folder: Path) -> Iterator[str]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{NAME}"
    finally:
        os.close(fd)
