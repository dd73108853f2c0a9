from __future__ import annotations

import subprocess
import sys

import pytest

from edge.memory import LockedMemory

NO_SWAP = "Filename\tType\tSize\tUsed\tPriority\n"
SWAP = NO_SWAP + "/dev/sda2 partition 1000 0 -2\n"
UNPRIVILEGED = """
import os, pathlib, resource, sys, tempfile
from edge.errors import MemoryNotLockedError
from edge.memory import LockedMemory

resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
if os.getuid() == 0:
    os.setuid(65534)
with tempfile.TemporaryDirectory() as folder:
    swaps = pathlib.Path(folder) / "swaps"
    if sys.argv[1:]:
        swaps.write_text(sys.argv[1])
    try:
        with LockedMemory(100_000, swaps=swaps) as memory:
            print("open", memory.locked)
    except MemoryNotLockedError as error:
        print(error.code)
"""


def test_memory_is_locked_and_wiped() -> None:
    with LockedMemory(5000) as memory:
        assert len(memory.view) == 5000
        memory.view[:] = b"\xff" * 5000
    assert bytes(memory.view) == bytes(5000)


def test_an_empty_piece_of_memory_is_none_the_less_one() -> None:
    with LockedMemory(0) as memory:
        assert len(memory.view) == 0


@pytest.mark.parametrize(
    ("swaps", "outcome"),
    [
        pytest.param([NO_SWAP], "open False", id="no swap: nothing can get out"),
        pytest.param([SWAP], "memory_not_locked", id="swap"),
        pytest.param([], "memory_not_locked", id="nobody can tell"),
    ],
)
def test_where_locking_is_refused_the_swap_decides(swaps: list[str], outcome: str) -> None:
    """In a process that may lock nothing and is not root."""
    command = [sys.executable, "-c", UNPRIVILEGED, *swaps]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == outcome
