"""Inputs as blobs: ``<tenant>/inputs/<run>/<interval>/<operation>``, and beside them the interval's wrapped ``key``.

Keys are never kept in memory: once a key's blob is gone, no process of ours can open its inputs.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tensorguard.crypto.errors import CryptoError

from processors.batches import sealing
from processors.batches.errors import InputDamagedError
from processors.blobs.file import FileBlobStore
from processors.blobs.port import BlobNotFoundError
from processors.keys.file import FileKeyProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from processors.blobs.port import BlobStore
    from processors.keys.port import KeyProvider
    from producers.installation import Installation

FOLDER, KEY = "inputs", "key"
_KEY_DOMAIN, _INPUT_DOMAIN = "tensorguard/interval-key/v1", "tensorguard/input/v1"
_NAME = re.compile(
    rf"(?P<tenant>[^/]+)/{FOLDER}/(?P<run>[^/]+)/(?P<interval>0|[1-9][0-9]*)/(?:{KEY}|(?P<operation>(?:[0-9a-f]{{2}})+))"
)
_ATTEMPTS = 8


class BlobInputStore:
    """An :class:`processors.batches.port.InputStore` over any blob store and key provider."""

    def __init__(self, blobs: BlobStore, keys: KeyProvider, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._blobs = blobs
        self._keys = keys
        self._random_bytes = random_bytes

    @classmethod
    def of(cls, installation: Installation) -> BlobInputStore:
        """That of an installation, with its file stores."""
        return cls(FileBlobStore(installation.blobs_dir), FileKeyProvider.of(installation))

    def put(self, tenant: str, run_id: str, interval: int, operation_id: bytes, data: bytes) -> None:
        """See :class:`processors.batches.port.InputStore`."""
        key = self._key_for_sealing(tenant, run_id, interval)
        place = sealing.place_of(_INPUT_DOMAIN, tenant, run_id, interval, operation_id)
        sealed = sealing.seal(key, place, data, self._random_bytes)
        with self._blobs.put(_name(tenant, run_id, interval, operation_id)) as out:
            out.write(sealed)

    def get(self, tenant: str, run_id: str, interval: int, operation_id: bytes) -> bytes | None:
        """See :class:`processors.batches.port.InputStore`."""
        sealed = self._read(_name(tenant, run_id, interval, operation_id))
        key = self._key(tenant, run_id, interval) if sealed is not None else None
        if sealed is None or key is None:
            return None
        place = sealing.place_of(_INPUT_DOMAIN, tenant, run_id, interval, operation_id)
        try:
            return sealing.unseal(key, place, sealed)
        except CryptoError as error:
            raise InputDamagedError("The input of an operation does not open.") from error

    def discard(self, tenant: str, run_id: str, interval: int, operation_id: bytes) -> None:
        """See :class:`processors.batches.port.InputStore`."""
        self._blobs.destroy(_name(tenant, run_id, interval, operation_id))

    def destroy(self, tenant: str, run_id: str, interval: int) -> None:
        """See :class:`processors.batches.port.InputStore`."""
        self._blobs.destroy(f"{_folder(tenant, run_id, interval)}/{KEY}")
        self._blobs.delete_below(_folder(tenant, run_id, interval))

    def intervals(self, tenant: str, run_id: str) -> Sequence[int]:
        """See :class:`processors.batches.port.InputStore`."""
        names = self._blobs.list(f"{tenant}/{FOLDER}/{run_id}/")
        return sorted({int(found["interval"]) for name in names if (found := _NAME.fullmatch(name))})

    def stored(self, tenant: str) -> Mapping[tuple[str, int], Sequence[bytes]]:
        """See :class:`processors.batches.port.InputStore`."""
        found: dict[tuple[str, int], list[bytes]] = {}
        for match in filter(None, map(_NAME.fullmatch, self._blobs.list(f"{tenant}/{FOLDER}/"))):
            held = found.setdefault((match["run"], int(match["interval"])), [])
            held += [bytes.fromhex(match["operation"])] if match["operation"] else []
        return found

    def _key_for_sealing(self, tenant: str, run_id: str, interval: int) -> bytes:
        """An interval's key, made on first use: of several processes that make one at once, one does, for all."""
        for _ in range(_ATTEMPTS):
            key = self._key(tenant, run_id, interval)
            if key is not None:
                return key
            fresh = self._random_bytes(sealing.KEY_BYTES)
            place = sealing.place_of(_KEY_DOMAIN, tenant, run_id, interval)
            wrapped = sealing.wrap_key(self._keys.tenant_dek(tenant), place, fresh)
            if self._blobs.create(f"{_folder(tenant, run_id, interval)}/{KEY}", wrapped):
                return fresh
        raise InputDamagedError("The key of an interval is destroyed again and again while it is used.")

    def _key(self, tenant: str, run_id: str, interval: int) -> bytes | None:
        wrapped = self._read(f"{_folder(tenant, run_id, interval)}/{KEY}")
        if wrapped is None:
            return None
        place = sealing.place_of(_KEY_DOMAIN, tenant, run_id, interval)
        try:
            return sealing.unwrap_key(self._keys.tenant_dek(tenant), place, wrapped)
        except CryptoError as error:
            raise InputDamagedError("The key of an interval does not open.") from error

    def _read(self, name: str) -> bytes | None:
        try:
            with self._blobs.open(name) as file:
                return file.read()
        except BlobNotFoundError:
            return None


def _folder(tenant: str, run_id: str, interval: int) -> str:
    return f"{tenant}/{FOLDER}/{run_id}/{interval}"


def _name(tenant: str, run_id: str, interval: int, operation_id: bytes) -> str:
    return f"{_folder(tenant, run_id, interval)}/{operation_id.hex()}"
