"""Wake-ups between threads and processes."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from producers.engines.bells import Bells
from tests.support.ledgers import python

if TYPE_CHECKING:
    from pathlib import Path

SOON = 20.0
BRIEFLY = 0.05

RING = """
import sys
from pathlib import Path
from producers.engines.bells import Bells
Bells(Path(sys.argv[1])).ring("news")
"""
LISTEN_AND_DIE = """
import os, signal, sys
from pathlib import Path
from producers.engines.bells import Bells
Bells(Path(sys.argv[1])).wait("news", lambda: False, 0.01)
print("listening", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
LISTEN = """
import sys
from pathlib import Path
from producers.engines.bells import Bells
folder, flag = Path(sys.argv[1]), Path(sys.argv[2])
bells = Bells(folder)
bells.wait("news", lambda: print("looking", flush=True), 0.0)
print(bells.wait("news", flag.exists, 20.0), flush=True)
"""


def test_a_ring_in_another_process_wakes_a_waiter(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    listener = python(LISTEN, tmp_path / "bells", flag)
    assert listener.stdout is not None
    assert listener.stdout.readline() == "looking\n"
    flag.touch()
    started = time.monotonic()
    Bells(tmp_path / "bells").ring("news")
    assert listener.stdout.readline() == "True\n"
    assert time.monotonic() - started < SOON / 2
    assert listener.wait(SOON) == 0


def test_a_waiter_here_is_woken_by_a_process_that_only_rings(tmp_path: Path) -> None:
    bells, rung = Bells(tmp_path), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bells.wait, "news", rung.is_set, SOON)
        rung.set()
        assert python(RING, tmp_path).wait(SOON) == 0
        assert waiting.result()
    bells.close()


def test_a_ring_between_the_look_and_the_sleep_is_not_missed(tmp_path: Path) -> None:
    bells, looks = Bells(tmp_path), list[int]()

    def look_while_it_rings() -> bool:
        looks.append(len(looks))
        bells.ring("news")
        return len(looks) == 3

    started = time.monotonic()
    assert bells.wait("news", look_while_it_rings, SOON)
    assert time.monotonic() - started < SOON / 2
    bells.close()


def test_a_ring_of_another_topic_wakes_nobody(tmp_path: Path) -> None:
    bells, looks = Bells(tmp_path), list[int]()

    def look() -> bool:
        looks.append(1)
        return False

    ringing = threading.Timer(BRIEFLY / 2, bells.ring, ("other",))
    ringing.start()
    assert not bells.wait("news", look, BRIEFLY)
    ringing.join()
    assert len(looks) == 2  # Once at the start and once when the time was over.
    bells.close()


def test_what_rings_while_a_listener_naps_is_heard_once_and_not_lost(tmp_path: Path) -> None:
    bells, looks, rung = Bells(tmp_path, nap=4 * BRIEFLY), list[int](), threading.Event()
    bells.wait("news", rung.is_set, 0.0)  # From here on it listens.

    def look() -> bool:
        looks.append(1)
        return rung.is_set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bells.wait, "news", look, SOON)
        other = Bells(tmp_path)
        for _ in range(50):
            other.ring("news")
        rung.set()
        other.ring("news")
        assert waiting.result()
    assert len(looks) < 50
    bells.close()


def test_the_bell_of_a_killed_process_is_taken_away(tmp_path: Path) -> None:
    listener = python(LISTEN_AND_DIE, tmp_path)
    listener.wait(SOON)
    assert len(list(tmp_path.iterdir())) == 1
    Bells(tmp_path).ring("news")
    assert list(tmp_path.iterdir()) == []


def test_a_listener_that_does_not_read_never_blocks_who_rings(tmp_path: Path) -> None:
    fifo = tmp_path / f"news-{os.getpid()}-stuck"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    bells = Bells(tmp_path)
    for _ in range(70_000):  # More than a pipe holds.
        if not _fits(reader):
            break
    bells.ring("news")
    assert fifo.exists()
    os.close(reader)


def _fits(fd: int) -> bool:
    try:
        return os.write(fd, b"!" * 4096) > 0
    except BlockingIOError:
        return False


def test_closing_wakes_every_waiter_and_leaves_no_bell_behind(tmp_path: Path) -> None:
    bells = Bells(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(bells.wait, "news", lambda: False, SOON) for _ in range(4)]
        bells.wait("news", lambda: False, BRIEFLY)
        bells.close()
        assert [future.result(SOON) for future in waiting] == [False] * 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("timeout", [0.0, -1.0])
def test_no_time_to_wait_is_one_look(tmp_path: Path, timeout: float) -> None:
    bells = Bells(tmp_path)
    assert bells.wait("news", lambda: True, timeout)
    assert not bells.wait("news", lambda: False, timeout)
    bells.close()
