"""Where the blobs of an artifact lie: the part of a blob store that sealing and opening need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tensorguard.crypto.memory import Data

MANIFEST, SIGNATURE, PAYLOAD = "manifest.json", "manifest.sig", "payload.enc"


class Writer(Protocol):
    """Takes bytes in order."""

    def write(self, data: Data, /) -> Any:
        """Take all of them."""


class ArtifactStore(Protocol):
    """Blobs by name; a name is parts joined by slashes."""

    def put(self, name: str) -> AbstractContextManager[Writer]:
        """Write a blob: it exists, whole and durable, once the block is left without an error."""

    def open(self, name: str) -> BinaryIO:
        """Read a blob from its start.

        Raises:
            FileNotFoundError: there is none.
        """


def artifact_prefix(tenant: str, artifact_id: str) -> str:
    """The common start of an artifact's blob names; the id is hex."""
    return f"{tenant}/{artifact_id}"
