"""Files that hold a secret: made once, mode 0600, never overwritten, never half written."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from producers.errors import KeyFileError
from producers.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(path: Path) -> Path:
    """A folder that only its owner may enter; it is made if need be."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(stat.S_IRWXU)
    return path


def ensure_secret(path: Path, make: bytes) -> None:
    """Keep a new secret under a path, unless there is one already. The caller holds the folder's lock."""
    if not path.exists():
        replace_file(path, make, mode=stat.S_IRUSR | stat.S_IWUSR)


def read_secret(path: Path, size: int | None = None) -> bytes:
    """The secret of a file; its size in bytes, if it is known beforehand.

    Raises:
        KeyFileError: it is missing, open to others, or of another size.
    """
    try:
        mode, data = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"The key file {path} cannot be read.") from error
    if mode & _OTHERS:
        raise KeyFileError(f"The key file {path} is open to other users.", next_step=f"Run `chmod 600 {path}`.")
    if size is not None and len(data) != size:
        raise KeyFileError(f"The key file {path} has {len(data)} bytes instead of {size}.")
    return data
