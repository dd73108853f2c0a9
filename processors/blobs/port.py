"""The blob-store port. Blobs are ciphertext, signatures and manifests; no plaintext comes here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, Protocol

from tensorguard.errors import TensorGuardError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from tensorguard.artifact.store import Writer

MAX_PARTS = 8
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class BlobError(TensorGuardError):
    """Base of the errors of blob stores."""

    code = "blob_error"
    next_step = "Look at the server's log, then try again."


class BlobNameError(BlobError):
    """A name that no blob can have."""

    code = "blob_name_invalid"
    next_step = "Use one to eight parts of letters, digits, dots, dashes and underscores, joined by slashes."


class BlobNotFoundError(BlobError, FileNotFoundError):
    """There is no blob of that name."""

    code = "blob_not_found"
    next_step = "Check the name; if the ledger names it, restore it from a backup."


class StorageFullError(BlobError):
    """There is no space left; nothing exists under the name."""

    code = "storage_full"
    next_step = "Free space on the data dir's file system, then do it again; what was stored before is unharmed."


class BlobStore(Protocol):
    """Whole blobs by name, written once or replaced as a whole, durable when ``put`` is left."""

    def put(self, name: str) -> AbstractContextManager[Writer]:
        """Write a blob. It appears under its name when the block ends well, and not at all otherwise.

        Raises:
            BlobNameError: no blob can have that name.
            StorageFullError: there is no space left.
        """

    def create(self, name: str, data: bytes) -> bool:
        """Write a blob unless there is one of that name, in one step among all processes; whether it was written.

        Raises:
            BlobNameError: no blob can have that name.
            StorageFullError: there is no space left.
        """

    def open(self, name: str) -> BinaryIO:
        """Read a blob from its start; the caller closes it.

        Raises:
            BlobNotFoundError: there is none.
        """

    def size(self, name: str) -> int:
        """The size in bytes.

        Raises:
            BlobNotFoundError: there is none.
        """

    def exists(self, name: str) -> bool:
        """Whether there is such a blob."""

    def delete(self, name: str) -> None:
        """Remove a blob, durably; it is no error if there is none."""

    def destroy(self, name: str) -> None:
        """Overwrite a blob, then remove it, each durably; it is no error if there is none.

        What the medium below keeps of old blocks is out of reach of every store.
        """

    def delete_below(self, folder: str) -> None:
        """Remove all blobs whose names begin with ``folder/``, durably as a whole; it is no error if there are none."""

    def list(self, prefix: str = "") -> Sequence[str]:
        """All names that start with a prefix, sorted."""


def check_name(name: str) -> tuple[str, ...]:
    """The parts of a sound name.

    Raises:
        BlobNameError: it is empty, absolute, hidden, climbs up, or has another character than allowed.
    """
    parts = tuple(name.split("/"))
    if len(parts) > MAX_PARTS or not all(_PART.fullmatch(part) for part in parts):
        raise BlobNameError("That is no name of a blob.")
    return parts
