"""The contract of input stores, and what the blobs below them show of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processors.batches.errors import InputDamagedError
from processors.batches.inputs import BlobInputStore
from processors.batches.port import InputStore
from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider

ONE, TWO = b"1" * 16, b"2" * 16
SECRET = b"the batch that nobody shall read"


@pytest.fixture(params=["blobs"])
def store(request: pytest.FixtureRequest, blobs: FileBlobStore, keys: FileKeyProvider) -> InputStore:
    return BlobInputStore(blobs, keys)


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 8192], ids=len)
def test_an_input_comes_back(store: InputStore, data: bytes) -> None:
    store.put("acme", "run", 0, ONE, data)
    assert store.get("acme", "run", 0, ONE) == data
    store.put("acme", "run", 0, ONE, b"another")
    assert store.get("acme", "run", 0, ONE) == b"another"


def test_an_input_is_found_in_its_own_place_only(store: InputStore) -> None:
    store.put("acme", "run", 7, ONE, b"x")
    for place in (
        ("globex", "run", 7, ONE),
        ("acme", "run2", 7, ONE),
        ("acme", "run", 0, ONE),
        ("acme", "run", 7, TWO),
    ):
        assert store.get(*place) is None
        store.discard(*place)
    assert store.get("acme", "run", 7, ONE) == b"x"


def test_a_discarded_input_is_gone_and_the_others_are_not(store: InputStore) -> None:
    store.put("acme", "run", 0, ONE, b"x")
    store.put("acme", "run", 0, TWO, b"y")
    store.discard("acme", "run", 0, ONE)
    store.discard("acme", "run", 0, ONE)
    assert (store.get("acme", "run", 0, ONE), store.get("acme", "run", 0, TWO)) == (None, b"y")


def test_a_destroyed_interval_is_gone_as_a_whole_and_the_others_are_not(store: InputStore) -> None:
    for interval in (0, 12, 3):
        store.put("acme", "run", interval, ONE, b"x")
    assert store.intervals("acme", "run") == [0, 3, 12]
    for _ in range(2):
        store.destroy("acme", "run", 3)
    assert store.get("acme", "run", 3, ONE) is None
    assert store.intervals("acme", "run") == [0, 12]
    assert store.get("acme", "run", 12, ONE) == b"x"


def test_everything_of_a_tenant_that_is_stored_can_be_listed(store: InputStore) -> None:
    store.put("acme", "run", 0, ONE, b"x")
    store.put("acme", "run", 0, TWO, b"x")
    store.put("globex", "other", 5, ONE, b"x")
    store.discard("globex", "other", 5, ONE)
    listed = {place: sorted(held) for place, held in store.stored("acme").items()}
    assert listed == {("run", 0): [ONE, TWO]}
    assert store.stored("globex") == {("other", 5): []}


def test_what_others_keep_in_the_same_blobs_is_no_input(store: InputStore, blobs: FileBlobStore) -> None:
    for name in ("acme/metadata/run", "acme/inputs/run/x/key", "acme/inputs/run/01/key", "acme/inputs/run/1/xyz"):
        with blobs.put(name) as out:
            out.write(b"x")
    assert store.stored("acme") == {}
    assert store.intervals("acme", "run") == []


def test_nothing_of_an_input_or_a_key_lies_in_the_clear(store: InputStore, blobs: FileBlobStore) -> None:
    store.put("acme", "run", 0, ONE, SECRET * 50_000)
    assert all(SECRET not in path.read_bytes() for path in blobs.root.rglob("*") if path.is_file())


def damage(blobs: FileBlobStore, name: str, change: Callable[[bytes], bytes]) -> None:
    path = blobs.root / name
    path.write_bytes(change(path.read_bytes()))


INPUT, KEY = f"acme/inputs/run/0/{ONE.hex()}", "acme/inputs/run/0/key"
DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "an input is cut short": (INPUT, lambda data: data[:-1]),
    "an input is empty": (INPUT, lambda _: b""),
    "an input is a stub": (INPUT, lambda data: data[:5]),
    "an input has a flipped bit": (INPUT, lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:]),
    "an input has another version": (INPUT, lambda data: b"\x02" + data[1:]),
    "an input goes on": (INPUT, lambda data: data + b"x"),
    "a key is cut short": (KEY, lambda data: data[:-8]),
    "a key is empty": (KEY, lambda _: b""),
    "a key is overwritten with zeros": (KEY, lambda data: bytes(len(data))),
    "a key has a flipped bit": (KEY, lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:]),
    "a key has another version": (KEY, lambda data: b"\x02" + data[1:]),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_an_error_and_never_other_data(store: InputStore, blobs: FileBlobStore, case: str) -> None:
    store.put("acme", "run", 0, ONE, SECRET)
    damage(blobs, *DAMAGE[case])
    with pytest.raises(InputDamagedError) as caught:
        store.get("acme", "run", 0, ONE)
    assert caught.value.code == "batch_lost"
    assert SECRET.decode() not in str(caught.value)


SWAPS = {
    "another operation's": f"acme/inputs/run/0/{TWO.hex()}",
    "another interval's": f"acme/inputs/run/1/{ONE.hex()}",
    "another run's": f"acme/inputs/run2/0/{ONE.hex()}",
    "another tenant's": f"globex/inputs/run/0/{ONE.hex()}",
}


@pytest.mark.parametrize("other", SWAPS.values(), ids=SWAPS)
@pytest.mark.parametrize("with_key", [False, True], ids=["alone", "with its key"])
def test_a_swapped_input_does_not_open(store: InputStore, blobs: FileBlobStore, other: str, *, with_key: bool) -> None:
    store.put("acme", "run", 0, ONE, b"mine")
    tenant, _, run, interval, operation = other.split("/")
    store.put(tenant, run, int(interval), bytes.fromhex(operation), b"other")
    (blobs.root / INPUT).write_bytes((blobs.root / other).read_bytes())
    if with_key:
        (blobs.root / KEY).write_bytes((blobs.root / f"{tenant}/inputs/{run}/{interval}/key").read_bytes())
    with pytest.raises(InputDamagedError):
        store.get("acme", "run", 0, ONE)


def test_an_input_without_its_key_is_as_good_as_gone(store: InputStore, blobs: FileBlobStore) -> None:
    store.put("acme", "run", 0, ONE, b"x")
    (blobs.root / KEY).unlink()
    assert store.get("acme", "run", 0, ONE) is None


def test_a_destroyed_key_is_overwritten_before_its_name_is_gone(store: InputStore, blobs: FileBlobStore) -> None:
    store.put("acme", "run", 0, ONE, b"x")
    with (blobs.root / KEY).open("rb") as still_open:
        store.destroy("acme", "run", 0)
        assert set(still_open.read()) == {0}
    assert list(blobs.root.rglob("*")) == [blobs.root / "acme"]


def test_threads_that_begin_an_interval_at_once_share_one_key(blobs: FileBlobStore, keys: FileKeyProvider) -> None:
    stores = [BlobInputStore(blobs, keys) for _ in range(8)]
    ids = [bytes([number]) * 16 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pair: pair[0].put("acme", "run", 0, pair[1], pair[1]), zip(stores, ids, strict=True)))
    assert [stores[0].get("acme", "run", 0, each) for each in ids] == ids


def test_processes_share_a_store_while_one_destroys_intervals(blobs: FileBlobStore, keys: FileKeyProvider) -> None:
    code = (
        "import pathlib, sys; from processors.batches.inputs import BlobInputStore\n"
        "from processors.batches.errors import InputDamagedError\n"
        "from processors.blobs.file import FileBlobStore; from processors.keys.file import FileKeyProvider\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "store = BlobInputStore(FileBlobStore(root / 'blobs'), FileKeyProvider(root / 'keys'))\n"
        "number = 0\n"
        "while number < 60:\n"
        "    try: store.put('acme', 'run', number // 3, bytes([number]) * 16, b'x')\n"
        "    except InputDamagedError: continue\n"
        "    number += 1\n"
    )
    store = BlobInputStore(blobs, keys)
    writers = [subprocess.Popen([sys.executable, "-c", code, str(blobs.root.parent)]) for _ in range(2)]
    while any(writer.poll() is None for writer in writers):
        for interval in store.intervals("acme", "run")[:-1]:
            store.destroy("acme", "run", interval)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert store.get("acme", "run", 19, bytes([59]) * 16) == b"x"


def test_a_full_disk_keeps_nothing_of_an_input(tmp_path: Path) -> None:
    code = (
        "import pathlib, resource, signal, sys; from processors.batches.inputs import BlobInputStore\n"
        "from processors.blobs.file import FileBlobStore; from processors.keys.file import FileKeyProvider\n"
        "from processors.blobs.port import StorageFullError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "store = BlobInputStore(FileBlobStore(root / 'blobs'), FileKeyProvider(root / 'keys'))\n"
        "try: store.put('acme', 'run', 0, bytes(16), bytes(100_000))\n"
        "except StorageFullError as error: print(error.code, store.get('acme', 'run', 0, bytes(16)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "storage_full None"
