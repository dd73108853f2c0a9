"""The contract of result stores, and what the blobs below them show of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from processors.batches.errors import ResultDamagedError
from processors.batches.port import ResultStore
from processors.batches.results import BlobResultStore
from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider

ONE, TWO = b"1" * 16, b"2" * 16
SAID, OTHERWISE = b"c" * 32, b"d" * 32
SECRET = b"what the model said"
SECOND = 1_000_000


@dataclass
class Hand:
    """A clock that is set by hand, in microseconds."""

    now: int = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture(params=["blobs"])
def store(request: pytest.FixtureRequest, blobs: FileBlobStore, keys: FileKeyProvider, clock: Hand) -> ResultStore:
    return BlobResultStore(blobs, keys, clock, seconds=60)


def test_a_result_comes_back_also_to_another_process(
    store: ResultStore, blobs: FileBlobStore, keys: FileKeyProvider, clock: Hand
) -> None:
    store.put("acme", ONE, SAID, b"text")
    assert store.get("acme", ONE, SAID) == b"text"
    assert BlobResultStore(blobs, keys, clock, seconds=1).get("acme", ONE, SAID) == b"text"
    store.put("acme", ONE, SAID, b"")
    assert store.get("acme", ONE, SAID) == b""


def test_a_result_is_found_under_its_own_name_only(store: ResultStore) -> None:
    store.put("acme", ONE, SAID, b"text")
    assert store.get("acme", TWO, SAID) is None
    assert store.get("globex", ONE, SAID) is None


def test_what_is_said_twice_of_an_operation_is_kept_twice(store: ResultStore) -> None:
    store.put("acme", ONE, SAID, b"text")
    store.put("acme", ONE, OTHERWISE, b"what a worker found that had lost the run")
    assert store.get("acme", ONE, SAID) == b"text"


def test_a_result_ends_with_its_time_and_is_swept_then(store: ResultStore, blobs: FileBlobStore, clock: Hand) -> None:
    store.put("acme", ONE, SAID, b"text")
    clock.now += 30 * SECOND
    store.put("acme", TWO, SAID, b"text")
    clock.now += 30 * SECOND - 1
    assert store.sweep("acme", clock.now) == 0
    assert store.get("acme", ONE, SAID) == b"text"
    clock.now += 1
    assert store.get("acme", ONE, SAID) is None
    assert store.sweep("globex", clock.now) == 0
    assert store.sweep("acme", clock.now) == 1
    assert list(blobs.list()) == [f"acme/results/{TWO.hex()}.{SAID.hex()}"]


def test_a_sweep_destroys_the_key_and_leaves_what_others_keep(
    store: ResultStore, blobs: FileBlobStore, clock: Hand
) -> None:
    with blobs.put("acme/metadata/run") as out:
        out.write(bytes(100))
    store.put("acme", ONE, SAID, SECRET)
    clock.now += 61 * SECOND
    with (blobs.root / RESULT).open("rb") as still_open:
        assert store.sweep("acme", clock.now) == 1
        assert set(still_open.read()) == {0}
    assert list(blobs.list()) == ["acme/metadata/run"]


def test_nothing_of_a_result_lies_in_the_clear(store: ResultStore, blobs: FileBlobStore) -> None:
    store.put("acme", ONE, SAID, SECRET)
    assert SECRET not in (blobs.root / RESULT).read_bytes()


RESULT = f"acme/results/{ONE.hex()}.{SAID.hex()}"
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a piece of its expiry": lambda data: data[:4],
    "a piece of its key": lambda data: data[:40],
    "no data": lambda data: data[:81],
    "cut short": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "a prolonged life": lambda data: (int.from_bytes(data[:8], "big") + 1).to_bytes(8, "big") + data[8:],
    "a flipped bit in its key": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "a flipped bit in its data": lambda data: data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_an_error_and_never_other_data(
    store: ResultStore, blobs: FileBlobStore, change: Callable[[bytes], bytes]
) -> None:
    store.put("acme", ONE, SAID, SECRET)
    path = blobs.root / RESULT
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ResultDamagedError) as caught:
        store.get("acme", ONE, SAID)
    assert SECRET.decode() not in str(caught.value)


OTHERS = {
    "another operation": ("acme", TWO, SAID),
    "another tenant": ("globex", ONE, SAID),
    "another outcome": ("acme", ONE, OTHERWISE),
}


@pytest.mark.parametrize(("tenant", "operation", "commitment"), OTHERS.values(), ids=OTHERS)
def test_a_swapped_result_does_not_open(
    store: ResultStore, blobs: FileBlobStore, tenant: str, operation: bytes, commitment: bytes
) -> None:
    store.put("acme", ONE, SAID, b"mine")
    store.put(tenant, operation, commitment, b"other")
    other = blobs.root / f"{tenant}/results/{operation.hex()}.{commitment.hex()}"
    (blobs.root / RESULT).write_bytes(other.read_bytes())
    with pytest.raises(ResultDamagedError):
        store.get("acme", ONE, SAID)
