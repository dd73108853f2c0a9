from __future__ import annotations

import io
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.crypto import stream
from tensorguard.crypto.seekable import decrypt_range

from processors.blobs.file import FileBlobStore
from processors.blobs.port import BlobNotFoundError
from processors.exporter.errors import ExportDamagedError
from processors.exporter.store import ExportStore
from processors.keys.file import FileKeyProvider

if TYPE_CHECKING:
    from collections.abc import Callable

EXPORT = bytes(range(16))
FILES = {"config.json": b"{}", "empty": b"", "model.safetensors": bytes(range(256)) * 9000}
LIFE = 60
SECOND = 1_000_000


class Clock:
    """Microseconds that the test sets."""

    now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> ExportStore:
    return ExportStore(FileBlobStore(tmp_path / "exports"), FileKeyProvider(tmp_path / "keys"), clock, LIFE)


def write(store: ExportStore, files: dict[str, bytes] = FILES, tenant: str = "acme") -> None:
    store.write(tenant, EXPORT, [(name, [data[:7], data[7:]]) for name, data in files.items()])


def blobs(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "exports").rglob("*") if path.is_file()]


def test_files_come_back_with_the_digests_that_the_listing_has_of_them(store: ExportStore) -> None:
    write(store)
    listing = store.open("acme", EXPORT)
    assert listing is not None
    assert {file.path: file.sha256 for file in listing.files} == {
        name: sha256(data).hexdigest() for name, data in FILES.items()
    }
    assert {file.path: b"".join(store.read(listing, file.path)) for file in listing.files} == FILES
    assert listing.size_bytes == sum(map(len, FILES.values()))


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (5, 5), ((1 << 20) - 1, (1 << 20) + 1), (1 << 20, 1 << 21), (2_000_000, None)]
)
def test_any_part_of_a_file_is_read_alone(start: int, end: int | None, store: ExportStore) -> None:
    write(store)
    listing = store.open("acme", EXPORT)
    assert listing is not None
    assert b"".join(store.read(listing, "model.safetensors", start, end)) == FILES["model.safetensors"][start:end]


@given(size=st.integers(0, 70), chunk=st.integers(1, 16), start=st.integers(0, 80), length=st.integers(0, 80))
def test_a_range_of_a_sealed_stream_is_that_range_of_its_plaintext(
    size: int, chunk: int, start: int, length: int
) -> None:
    key = stream.StreamKey(bytes(32), bytes(32), bytes(7), chunk)
    plain, sealed = bytes(range(size)), io.BytesIO()
    stream.encrypt_stream([plain], sealed.write, key)
    assert b"".join(decrypt_range(sealed, key, size, start, start + length)) == plain[start : start + length]


def test_no_byte_of_a_file_lies_on_the_disk(store: ExportStore, tmp_path: Path) -> None:
    secret = os.urandom(1024)
    write(store, {"weights": secret * 4})
    assert all(secret[:16] not in path.read_bytes() for path in blobs(tmp_path))


def test_an_export_is_gone_when_its_time_is_over_and_swept_with_its_key(
    store: ExportStore, clock: Clock, tmp_path: Path
) -> None:
    write(store)
    clock.now += LIFE * SECOND
    assert store.open("acme", EXPORT) is None
    assert (store.sweep(clock.now - 1), len(blobs(tmp_path)) > 0) == (0, True)
    assert (store.sweep(clock.now), blobs(tmp_path)) == (1, [])


def test_a_destroyed_export_is_gone_at_once_also_for_a_reader_in_the_middle(store: ExportStore) -> None:
    write(store)
    listing = store.open("acme", EXPORT)
    assert listing is not None
    store.destroy("acme", EXPORT)
    assert store.open("acme", EXPORT) is None
    with pytest.raises(BlobNotFoundError):
        next(store.read(listing, "config.json"))


def test_what_fails_in_the_middle_leaves_nothing(store: ExportStore, tmp_path: Path) -> None:
    def failing() -> object:
        yield b"half"
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.write("acme", EXPORT, [("a", [b"x"]), ("b", failing())])  # type: ignore[list-item]
    assert blobs(tmp_path) == []


def _flip(position: int) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        at = position % len(data)
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return flip


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a prolonged life": ("key", _flip(0)),
    "another key": ("key", _flip(-1)),
    "a cut key": ("key", lambda data: data[:-1]),
    "a changed listing": ("listing", _flip(-1)),
    "a changed file": ("2", _flip(100)),
    "a cut file": ("2", lambda data: data[:-1]),
    "another file in its place": ("2", lambda data: data[16:] + data[:16]),
}


@pytest.mark.parametrize(("blob", "damage"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_noticed(blob: str, damage: Callable[[bytes], bytes], store: ExportStore, tmp_path: Path) -> None:
    write(store)
    path = next(path for path in blobs(tmp_path) if path.name == blob)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ExportDamagedError):
        _read_all(store)


def _read_all(store: ExportStore) -> None:
    listing = store.open("acme", EXPORT)
    assert listing is not None
    b"".join(store.read(listing, "model.safetensors"))


def test_an_export_opens_for_no_other_tenant(store: ExportStore, tmp_path: Path) -> None:
    write(store)
    (tmp_path / "exports" / "acme").rename(tmp_path / "exports" / "globex")
    with pytest.raises(ExportDamagedError):
        store.open("globex", EXPORT)
