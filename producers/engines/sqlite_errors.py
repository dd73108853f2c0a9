"""What SQLite and the file system raise, as our errors."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from producers.engines.errors import EngineError, LedgerDamagedError, StorageFullError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP}
)
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE = 0xFF


@contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Raise errors of this package in the block; ``what`` names the thing that is read or written, e.g. "ledger".

    Raises:
        StorageFullError: there is no space left.
        LedgerDamagedError: the file is no sound database.
        EngineError: anything else that SQLite says.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _translated(error, what) from error
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFullError(f"There is no space left for the {what}.") from error
        raise


def _translated(error: sqlite3.Error, what: str) -> EngineError:
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _FULL:
        return StorageFullError(f"There is no space left for the {what}.")
    if code & _PRIMARY_CODE in _DAMAGED:
        return LedgerDamagedError(f"The file of the {what} is damaged.")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return EngineError(f"The file of the {what} cannot be used ({name}).")
