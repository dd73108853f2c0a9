"""Locks of files: whom they keep out, for how long one waits, and that looking at one disturbs nobody."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from producers.locks import FileLock, is_locked

HOLDER = """
import sys, time
from pathlib import Path
from producers.locks import FileLock
assert FileLock(Path(sys.argv[1])).try_acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_one_object_alone_holds_a_lock(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.try_acquire()
    assert first.try_acquire(), "who holds it has it"
    assert not second.try_acquire()
    assert not second.try_share()
    first.release()
    assert second.try_acquire()


def test_those_who_share_keep_out_who_wants_it_alone(tmp_path: Path) -> None:
    one, other, alone = (FileLock(tmp_path / "lock") for _ in range(3))
    assert one.try_share()
    assert other.try_share()
    assert not alone.try_acquire()
    assert is_locked(tmp_path / "lock")
    one.release()
    other.release()
    assert not is_locked(tmp_path / "lock")
    assert alone.try_acquire()


def test_the_many_locks_of_a_file_know_nothing_of_each_other(tmp_path: Path) -> None:
    path, last = tmp_path / "lock", (1 << 62) - 1
    assert all(FileLock(path, number).try_acquire() for number in (1, last - 1, last))
    assert not any(FileLock(path, number).try_acquire() for number in (1, last - 1, last))
    assert not is_locked(path), "the first one is not among them"
    assert FileLock(path).try_acquire()
    assert is_locked(path)


def test_who_waits_gets_it_when_it_is_given_back_and_else_gives_up(tmp_path: Path) -> None:
    holder, waiting = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert holder.try_acquire()
    assert not waiting.acquire_within(0.0)
    assert not waiting.held
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(waiting.acquire_within(60.0)))
    waiter.start()
    holder.release()
    waiter.join()
    assert got == [True]


def test_to_look_at_a_lock_keeps_nobody_out_of_it(tmp_path: Path) -> None:
    path, stop = tmp_path / "lock", threading.Event()
    path.touch()

    def look() -> None:
        while not stop.is_set():
            is_locked(path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(2000):
            lock = FileLock(path)
            assert lock.try_acquire()
            lock.release()
    finally:
        stop.set()
        looking.join()


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_locked(path)
        assert not FileLock(path).try_acquire()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not is_locked(path)
    assert FileLock(path).try_acquire()


def test_a_lock_that_is_given_back_is_free_though_a_child_still_has_its_descriptor(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert lock.try_acquire()
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[lock._fd or 0]
    ):
        lock.release()
        assert not is_locked(tmp_path / "lock")


def test_a_file_that_is_not_there_is_not_locked_and_not_made(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "none")
    assert not (tmp_path / "none").exists()
