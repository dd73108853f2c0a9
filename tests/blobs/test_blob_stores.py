"""The contract of blob stores, run on each of them, and what is the file store's alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from processors.blobs.file import FileBlobStore
from processors.blobs.port import BlobNameError, BlobNotFoundError, BlobStore, StorageFullError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return FileBlobStore(tmp_path / "blobs")


def put(store: BlobStore, name: str, data: bytes) -> None:
    with store.put(name) as out:
        out.write(data)


def put_half(store: BlobStore, name: str) -> None:
    with store.put(name) as out:
        out.write(b"half")
        raise KeyError


def content(store: BlobStore, name: str) -> bytes:
    with store.open(name) as file:
        return file.read()


def test_a_blob_comes_back(store: BlobStore) -> None:
    put(store, "acme/a/payload.enc", b"bytes")
    assert content(store, "acme/a/payload.enc") == b"bytes"
    assert store.size("acme/a/payload.enc") == 5
    assert store.exists("acme/a/payload.enc")


def test_a_blob_is_replaced_as_a_whole_while_old_readers_read_on(store: BlobStore) -> None:
    put(store, "a", b"old")
    with store.open("a") as reader:
        put(store, "a", b"newer")
        assert reader.read() == b"old"
    assert content(store, "a") == b"newer"


def test_nothing_appears_before_the_block_is_left(store: BlobStore) -> None:
    with store.put("a") as out:
        out.write(b"half")
        assert not store.exists("a")
        assert store.list() == []
    assert store.exists("a")


def test_a_block_that_fails_leaves_nothing_and_keeps_the_old(store: BlobStore) -> None:
    put(store, "a", b"old")
    for name in ("a", "b"):
        with pytest.raises(KeyError):
            put_half(store, name)
    assert content(store, "a") == b"old"
    assert store.list() == ["a"]


def test_names_are_listed_sorted_and_by_prefix(store: BlobStore) -> None:
    for name in ("b/2", "a/1", "b/1"):
        put(store, name, b"")
    assert store.list() == ["a/1", "b/1", "b/2"]
    assert store.list("b/") == ["b/1", "b/2"]
    assert store.list("c") == []


def test_a_deleted_blob_is_gone_and_deleting_again_is_no_error(store: BlobStore) -> None:
    put(store, "a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")


def test_of_those_who_create_a_blob_one_does_and_the_others_are_told(store: BlobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: store.create("a/b", bytes([number])), range(8)))
    assert sum(made) == 1
    assert content(store, "a/b") == bytes([made.index(True)])
    assert store.list() == ["a/b"]


def test_a_destroyed_blob_is_gone_and_destroying_again_is_no_error(store: BlobStore) -> None:
    put(store, "a/b", bytes(100_000))
    store.destroy("a/b")
    store.destroy("a/b")
    assert store.list() == []


def test_all_blobs_below_a_folder_are_deleted_and_no_others(store: BlobStore) -> None:
    for name in ("a/b/c/1", "a/b/c/d/2", "a/b/c2", "a/bc/3"):
        put(store, name, b"x")
    store.delete_below("a/b/c")
    store.delete_below("a/b/c")
    assert store.list() == ["a/b/c2", "a/bc/3"]


def test_an_absent_blob_is_named_as_such(store: BlobStore) -> None:
    put(store, "folder/x", b"")
    for name in ("absent", "folder", "folder/x/y"):
        with pytest.raises(BlobNotFoundError):
            store.open(name).close()
    with pytest.raises(FileNotFoundError):
        store.size("absent")


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "/etc/passwd", "..", "../x", "a/../b", "a/./b", "a//b", "a/", ".hidden", "a/.part-1", "-x", "a\\b"),
        *("a\x00b", "a\n", "ä", "a" * 129, "/".join("a" * 9), "~/x", "a b"),
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(store: BlobStore, name: str) -> None:
    for attempt in (store.open, store.size, store.exists, store.delete, store.destroy, store.delete_below):
        with pytest.raises(BlobNameError):
            attempt(name)
    with pytest.raises(BlobNameError):
        store.create(name, b"")
    with pytest.raises(BlobNameError), store.put(name):
        pass


def test_a_full_disk_has_its_own_error_and_leaves_nothing(tmp_path: Path) -> None:
    """The limit on a file's size stands in for the end of the disk: a write over it really fails in the kernel."""
    code = (
        "import pathlib, resource, signal, sys; from processors.blobs.file import FileBlobStore\n"
        "from processors.blobs.port import StorageFullError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "store = FileBlobStore(pathlib.Path(sys.argv[1]))\n"
        "try:\n"
        "    with store.put('a/b') as out: out.write(bytes(100_000))\n"
        "except StorageFullError as error: print(error.code, store.list(), list(store.root.rglob('.part*')))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.strip() == f"{StorageFullError.code} [] []"


def test_what_a_killed_writer_left_is_swept_and_a_living_writers_is_not(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from processors.blobs.file import FileBlobStore\n"
        "with FileBlobStore(pathlib.Path(sys.argv[1])).put('a/b') as out:\n"
        "    out.write(b'x'); print('writing', flush=True); sys.stdin.read()\n"
    )
    store = FileBlobStore(tmp_path)
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout
    assert writer.stdout.readline() == "writing\n"
    assert store.sweep() == 0
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    assert store.sweep() == 1
    assert store.list() == []


def test_a_destroyed_blob_is_overwritten_before_its_name_is_gone(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path)
    put(store, "a/b", b"key" * 1000)
    with store.open("a/b") as reader:
        store.destroy("a/b")
        assert reader.read() == bytes(3000)


def test_folders_that_nothing_is_in_any_more_are_gone(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path)
    put(store, "a/b/c/d", b"x")
    put(store, "a/b/c/e", b"x")
    store.delete_below("a/b/c")
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]


def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path)

    def write_and_delete(number: int) -> None:
        for _ in range(40):
            put(store, f"a/b/c/{number}", b"x")
            store.delete(f"a/b/c/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_and_delete, range(4)))
    assert store.list() == []
