"""Files of exports, sealed: blobs ``<tenant>/<export>/<number>``, and beside them a ``listing`` and the ``key``.

One random key per export, wrapped under the tenant's; each file is a stream under a key derived from it, so that any
part of a file can be read alone. The key's blob, ``expiry (8) || wrapped key (73)``, is written last and destroyed
first: without it there is no export. The expiry is bound to the key: nobody can prolong an export's life.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tensorguard.crypto import stream
from tensorguard.crypto.binding import bound_hash
from tensorguard.crypto.errors import CryptoError
from tensorguard.crypto.seekable import decrypt_range
from tensorguard.model_manifest import FileDigest, manifest_digest

from processors.batches import sealing
from processors.blobs.file import FileBlobStore
from processors.blobs.port import BlobNotFoundError
from processors.exporter.errors import ExportDamagedError
from processors.keys.file import FileKeyProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tensorguard.crypto.memory import Data

    from processors.blobs.port import BlobStore
    from processors.keys.port import KeyProvider
    from producers.installation import Installation

KEY, LISTING = "key", "listing"
_KEY_DOMAIN, _LIST_DOMAIN, _FILE_DOMAIN = (f"tensorguard/export-{what}/v1" for what in ("key", "listing", "file"))
_KEY_NAME = re.compile(rf"(?P<tenant>[^/]+)/(?P<export>(?:[0-9a-f]{{2}})+)/{KEY}")


@dataclass(frozen=True, slots=True)
class Listing:
    """An export that can be read: its files, in order, and when it goes (microseconds since the epoch)."""

    tenant: str
    export_id: bytes
    files: tuple[FileDigest, ...]
    expires_at: int
    key: bytes = field(repr=False)

    @property
    def digest(self) -> bytes:
        """What the ledger has of the files: 32 bytes."""
        return manifest_digest(self.files)

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files)

    def find(self, name: str) -> tuple[int, FileDigest] | None:
        """A file and its number."""
        return next(((number, file) for number, file in enumerate(self.files) if file.path == name), None)


class ExportStore:
    """Exports of one installation; any number of processes may use it. ``clock`` gives microseconds."""

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
    def of(cls, installation: Installation) -> ExportStore:
        """That of an installation."""
        seconds = installation.settings.export_ttl_seconds
        return cls(blobs_of(installation), FileKeyProvider.of(installation), installation.clock, seconds)

    def write(self, tenant: str, export_id: bytes, files: Iterable[tuple[str, Iterable[Data]]]) -> Listing:
        """Seal files, given by name in pieces, under a fresh key; the export's life begins when all are there.

        Raises:
            StorageFullError: there is no space left; nothing is kept.
        """
        self.destroy(tenant, export_id)
        key = self._random_bytes(sealing.KEY_BYTES)
        try:
            found = [self._seal(tenant, export_id, key, number, *file) for number, file in enumerate(files)]
            return self._finish(tenant, export_id, key, found)
        except BaseException:
            self.destroy(tenant, export_id)
            raise

    def _seal(
        self, tenant: str, export_id: bytes, key: bytes, number: int, name: str, pieces: Iterable[Data]
    ) -> FileDigest:
        digest = sha256()

        def hashed() -> Iterator[Data]:
            for piece in pieces:
                digest.update(piece)
                yield piece

        with self._blobs.put(f"{_folder(tenant, export_id)}/{number}") as out:
            sealed = stream.encrypt_stream(hashed(), out.write, _opener(tenant, export_id, key, number, name))
        return FileDigest(name, digest.hexdigest(), sealed.plaintext_size)

    def _finish(self, tenant: str, export_id: bytes, key: bytes, files: list[FileDigest]) -> Listing:
        expiry = sealing.expiry(self._clock() + self._life)
        place = sealing.place_of(_LIST_DOMAIN, tenant, export_id)
        text = json.dumps([asdict(file) for file in files]).encode()
        wrapped = sealing.wrap_key(self._keys.tenant_dek(tenant), _key_place(tenant, export_id, expiry), key)
        sealed = sealing.seal(_derived(key, place), place, text, self._random_bytes)
        for name, data in ((LISTING, sealed), (KEY, expiry + wrapped)):
            with self._blobs.put(f"{_folder(tenant, export_id)}/{name}") as out:
                out.write(data)
        return Listing(tenant, export_id, tuple(files), sealing.expires_at(expiry), key)

    def open(self, tenant: str, export_id: bytes) -> Listing | None:
        """An export, or None if there is none or its time is over.

        Raises:
            ExportDamagedError: what lies there is not what was written.
        """
        try:
            stored, sealed = self._read(tenant, export_id, KEY), self._read(tenant, export_id, LISTING)
        except BlobNotFoundError:
            return None
        expiry, wrapped = stored[: sealing.EXPIRY_BYTES], stored[sealing.EXPIRY_BYTES :]
        if sealing.is_over(expiry, self._clock()):
            return None
        place = sealing.place_of(_LIST_DOMAIN, tenant, export_id)
        try:
            dek = self._keys.tenant_dek(tenant)
            key = sealing.unwrap_key(dek, _key_place(tenant, export_id, expiry), wrapped)
            files = json.loads(sealing.unseal(_derived(key, place), place, sealed))
        except CryptoError as error:
            raise ExportDamagedError("An export's key or listing does not open.") from error
        found = tuple(FileDigest(**file) for file in files)
        return Listing(tenant, export_id, found, sealing.expires_at(expiry), key)

    def read(self, listing: Listing, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """A file's bytes from ``start`` up to ``end``, in pieces. Nothing is read before the first is asked for.

        Raises:
            BlobNotFoundError: it is gone, or never was.
            ExportDamagedError: what lies there is not what was written.
        """
        found = listing.find(name)
        if found is None:
            raise BlobNotFoundError("The export has no such file.")
        number, file = found
        opener = _opener(listing.tenant, listing.export_id, listing.key, number, name)
        stop = file.size_bytes if end is None else end
        with self._blobs.open(f"{_folder(listing.tenant, listing.export_id)}/{number}") as source:
            try:
                yield from decrypt_range(source, opener, file.size_bytes, start, stop)
            except CryptoError as error:
                raise ExportDamagedError("An export's file does not open.") from error

    def destroy(self, tenant: str, export_id: bytes) -> None:
        """Destroy an export's key, then remove its files; it is no error if there is none."""
        self._blobs.destroy(f"{_folder(tenant, export_id)}/{KEY}")
        self._blobs.delete_below(_folder(tenant, export_id))

    def sweep(self, now: int) -> int:
        """Destroy the exports whose time is over at ``now`` (microseconds); how many."""
        over = [match for match in filter(None, map(_KEY_NAME.fullmatch, self._blobs.list())) if self._over(match, now)]
        for match in over:
            self.destroy(match["tenant"], bytes.fromhex(match["export"]))
        return len(over)

    def _over(self, match: re.Match[str], now: int) -> bool:
        try:
            stored = self._read(match["tenant"], bytes.fromhex(match["export"]), KEY)
        except BlobNotFoundError:
            return False
        return sealing.is_over(stored, now)

    def _read(self, tenant: str, export_id: bytes, name: str) -> bytes:
        with self._blobs.open(f"{_folder(tenant, export_id)}/{name}") as file:
            return file.read()


def blobs_of(installation: Installation) -> FileBlobStore:
    """Where the sealed files of an installation's exports lie."""
    return FileBlobStore(installation.data_dir / "exports")


def _folder(tenant: str, export_id: bytes) -> str:
    return f"{tenant}/{export_id.hex()}"


def _key_place(tenant: str, export_id: bytes, expiry: bytes) -> bytes:
    return sealing.place_of(_KEY_DOMAIN, tenant, export_id, expiry)


def _opener(tenant: str, export_id: bytes, key: bytes, number: int, name: str) -> stream.StreamKey:
    place = sealing.place_of(_FILE_DOMAIN, tenant, export_id, number, name)
    # The prefix may be fixed: each derived key seals one stream only.
    return stream.StreamKey(_derived(key, place), bound_hash(_FILE_DOMAIN, place), bytes(stream.PREFIX_BYTES))


def _derived(key: bytes, place: bytes) -> bytes:
    return HKDF(SHA256(), stream.KEY_BYTES, salt=None, info=place).derive(key)
