"""Results as blobs ``<tenant>/results/<operation>.<commitment>``: ``expiry (8) || wrapped key (73) || sealed data``.

The expiry, in microseconds, is part of the place that key and data are bound to: nobody can prolong a result's life.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tensorguard.crypto.errors import CryptoError

from processors.batches import sealing
from processors.batches.errors import ResultDamagedError
from processors.blobs.file import FileBlobStore
from processors.blobs.port import BlobNotFoundError
from processors.keys.file import FileKeyProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.blobs.port import BlobStore
    from processors.keys.port import KeyProvider
    from producers.installation import Installation

FOLDER = "results"
_DOMAIN = "tensorguard/result/v1"
_HEAD_BYTES = sealing.EXPIRY_BYTES + sealing.WRAPPED_BYTES
_NAME = re.compile(rf"[^/]+/{FOLDER}/[^/]+")


class BlobResultStore:
    """A :class:`processors.batches.port.ResultStore` over any blob store and key provider.

    ``clock`` gives microseconds since the epoch, ``seconds`` is the time to live.
    """

    def __init__(
        self,
        blobs: BlobStore,
        keys: KeyProvider,
        clock: Callable[[], int],
        seconds: float,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._blobs = blobs
        self._keys = keys
        self._clock = clock
        self._life = round(seconds * 1_000_000)
        self._random_bytes = random_bytes

    @classmethod
    def of(cls, installation: Installation) -> BlobResultStore:
        """That of an installation, with its file stores, its clock and the time to live that is set."""
        blobs, keys = FileBlobStore(installation.blobs_dir), FileKeyProvider.of(installation)
        return cls(blobs, keys, installation.clock, installation.settings.result_ttl_seconds)

    def put(self, tenant: str, operation_id: bytes, commitment: bytes, data: bytes) -> None:
        """See :class:`processors.batches.port.ResultStore`."""
        expiry = sealing.expiry(self._clock() + self._life)
        key, place = self._random_bytes(sealing.KEY_BYTES), _place(tenant, operation_id, commitment, expiry)
        wrapped = sealing.wrap_key(self._keys.tenant_dek(tenant), place, key)
        sealed = sealing.seal(key, place, data, self._random_bytes)
        with self._blobs.put(_name(tenant, operation_id, commitment)) as out:
            out.write(expiry + wrapped + sealed)

    def get(self, tenant: str, operation_id: bytes, commitment: bytes) -> bytes | None:
        """See :class:`processors.batches.port.ResultStore`."""
        try:
            with self._blobs.open(_name(tenant, operation_id, commitment)) as file:
                stored = file.read()
        except BlobNotFoundError:
            return None
        head, sealed = stored[:_HEAD_BYTES], stored[_HEAD_BYTES:]
        expiry, wrapped = head[: sealing.EXPIRY_BYTES], head[sealing.EXPIRY_BYTES :]
        if len(expiry) == sealing.EXPIRY_BYTES and sealing.is_over(expiry, self._clock()):
            return None
        place = _place(tenant, operation_id, commitment, expiry)
        try:
            key = sealing.unwrap_key(self._keys.tenant_dek(tenant), place, wrapped)
            return sealing.unseal(key, place, sealed)
        except CryptoError as error:
            raise ResultDamagedError("The result of an operation does not open.") from error

    def sweep(self, tenant: str, now: int) -> int:
        """See :class:`processors.batches.port.ResultStore`."""
        over = [
            name
            for name in self._blobs.list(f"{tenant}/{FOLDER}/")
            if _NAME.fullmatch(name) and self._is_over(name, now)
        ]
        for name in over:
            self._blobs.destroy(name)
        return len(over)

    def _is_over(self, name: str, now: int) -> bool:
        try:
            with self._blobs.open(name) as file:
                return sealing.is_over(file.read(sealing.EXPIRY_BYTES), now)
        except BlobNotFoundError:
            return False


def _name(tenant: str, operation_id: bytes, commitment: bytes) -> str:
    return f"{tenant}/{FOLDER}/{operation_id.hex()}.{commitment.hex()}"


def _place(tenant: str, operation_id: bytes, commitment: bytes, expiry: bytes) -> bytes:
    return sealing.place_of(_DOMAIN, tenant, operation_id, commitment, expiry)
