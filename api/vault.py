"""Free text of clients (metadata of runs and checkpoints), sealed under the tenant's key beside the ledger.

A sealed document is ``nonce (12) || AES-256-GCM(salt (32) || canonical JSON)``; the key is derived from the tenant's
DEK, and tenant and name are authenticated. The ledger holds a salted commitment to a run's metadata.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tensorguard import commitment
from tensorguard.crypto.binding import bind

from api.errors import ApiError
from processors.blobs.port import BlobNotFoundError

if TYPE_CHECKING:
    from processors.blobs.port import BlobStore
    from processors.keys.port import KeyProvider

DOMAIN = "tensorguard/metadata/v1"
MAX_BYTES = 16 << 10
MAX_DEPTH = 32
"""Far below where a JSON reader or writer of either side gives up: what is kept must come back in every answer."""
_NONCE = 12


class Vault:
    """Sealed metadata by tenant and name (a run's or an operation's id)."""

    def __init__(self, keys: KeyProvider, blobs: BlobStore) -> None:
        self._keys = keys
        self._blobs = blobs

    def put(self, tenant: str, name: str, metadata: dict[str, Any]) -> bytes | None:
        """Seal metadata; the 32 bytes of its commitment. Empty metadata is not kept.

        Raises:
            ApiError: invalid_request, it is no JSON of at most 16 KiB and 32 levels.
            StorageFullError: there is no space left.
        """
        if not metadata:
            return None
        salt, data = secrets.token_bytes(commitment.SALT_BYTES), _canonical(metadata)
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._cipher(tenant).encrypt(nonce, salt + data, _context(tenant, name))
        with self._blobs.put(_path(tenant, name)) as out:
            out.write(sealed)
        return commitment.commit(salt, data)

    def commitment_to(self, tenant: str, name: str, metadata: dict[str, Any]) -> bytes | None:
        """The commitment to metadata by the salt that is kept under a name: a repeated request has the same one."""
        opened = self._open(tenant, name)
        if not metadata or opened is None:
            return None
        return commitment.commit(opened[: commitment.SALT_BYTES], _canonical(metadata))

    def get(self, tenant: str, name: str) -> dict[str, Any]:
        """The metadata under a name; empty if there is none, or if it no longer opens."""
        opened = self._open(tenant, name)
        found: dict[str, Any] = json.loads(opened[commitment.SALT_BYTES :]) if opened else {}
        return found

    def drop(self, tenant: str, name: str) -> None:
        """Remove the metadata under a name, if there is any."""
        self._blobs.delete(_path(tenant, name))

    def _open(self, tenant: str, name: str) -> bytes | None:
        try:
            with self._blobs.open(_path(tenant, name)) as file:
                sealed = file.read()
            return self._cipher(tenant).decrypt(sealed[:_NONCE], sealed[_NONCE:], _context(tenant, name))
        except (BlobNotFoundError, InvalidTag):
            return None

    def _cipher(self, tenant: str) -> AESGCM:
        dek = self._keys.tenant_dek(tenant)
        return AESGCM(HKDF(SHA256(), 32, salt=None, info=DOMAIN.encode()).derive(dek.key))


def _canonical(metadata: dict[str, Any]) -> bytes:
    try:
        data = commitment.canonical(metadata)
    except commitment.UncommittableError as error:
        raise ApiError("invalid_request", "metadata is not plain JSON.") from error
    if len(data) > MAX_BYTES:
        raise ApiError("invalid_request", f"metadata has {len(data)} bytes; at most {MAX_BYTES}.")
    if _deeper_than(metadata, MAX_DEPTH):
        raise ApiError("invalid_request", f"metadata is nested deeper than {MAX_DEPTH} levels.")
    return data


def _deeper_than(value: Any, levels: int) -> bool:
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if held is None:
        return False
    return levels == 0 or any(_deeper_than(each, levels - 1) for each in held)


def _path(tenant: str, name: str) -> str:
    return f"{tenant}/metadata/{name}"


def _context(tenant: str, name: str) -> bytes:
    return bind(DOMAIN, tenant.encode(), name.encode())
