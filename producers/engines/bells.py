"""Wake-ups between threads and processes, without polling.

A listener makes a FIFO of its own in the bells folder; whoever rings writes one byte into each. FIFOs have no limit on
the length of their path (sockets have), need no server, and one whose reader died is recognised (``ENXIO``) and
unlinked. A bell only says "look again": the state itself is read from the ledger, so a doubled ring does no harm.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_DRAIN_BYTES = 4096
_DEAF_SECONDS = 1.0


class Bells:
    """The bells of one data dir as one process sees them; topics are short words without a dash.

    After a ring from another process this one does not listen for ``nap`` seconds, and then hears what rang meanwhile
    as one: a process whose work can wait that long is not woken for every record of a busy ledger.
    """

    def __init__(self, folder: Path, nap: float = 0.0) -> None:
        self._folder = folder
        self._nap = nap
        self._opening = threading.Lock()
        # One for each topic: a ring of the intake wakes nobody who waits for the log.
        self._changed: dict[str, threading.Condition] = {}
        self._rings: defaultdict[str, int] = defaultdict(int)
        self._listeners: dict[str, _Listener] = {}
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True)

    def ring(self, topic: str) -> None:
        """Wake every waiter of a topic, here and in other processes."""
        self._ring_here(topic)
        own = self._listeners.get(topic)
        for name in os.listdir(self._folder):  # noqa: PTH208 -- for every commit: paths cost more than the ring
            if name.startswith(f"{topic}-") and (own is None or name != own.path.name):
                _poke(self._folder / name)

    def wait(self, topic: str, ready: Callable[[], bool], timeout: float) -> bool:
        """Block until ``ready`` holds or seconds passed; whether it holds.

        A ring between a look and the sleep after it is not missed: rings are counted, and the count is taken before
        the look.
        """
        deadline = time.monotonic() + timeout
        longest = timeout if self._listen(topic) else _DEAF_SECONDS
        while True:
            heard = self._rings[topic]
            if ready():
                return True
            left = deadline - time.monotonic()
            if left <= 0 or self._closed:
                return False
            self._sleep(topic, heard, min(left, longest))

    def _sleep(self, topic: str, heard: int, timeout: float) -> None:
        changed = self._condition(topic)
        with changed:
            changed.wait_for(lambda: self._closed or self._rings[topic] != heard, timeout)

    def close(self) -> None:
        """Wake all waiters for good and take the FIFOs away."""
        with self._opening:
            self._closed = True
            listeners, self._listeners = self._listeners, {}
            waited_for = list(self._changed.values())
        for changed in waited_for:
            with changed:
                changed.notify_all()
        for listener in listeners.values():
            listener.close()

    def _ring_here(self, topic: str) -> None:
        changed = self._condition(topic)
        with changed:
            self._rings[topic] += 1
            changed.notify_all()

    def _condition(self, topic: str) -> threading.Condition:
        return self._changed.get(topic) or self._changed.setdefault(topic, threading.Condition())

    def _listen(self, topic: str) -> bool:
        with self._opening:
            if topic in self._listeners or self._closed:
                return True
            try:
                self._listeners[topic] = _Listener(self._folder, topic, lambda: self._ring_here(topic), self._nap)
            except OSError:
                # No inode left: other processes cannot be heard, so the wait looks again by itself now and then.
                return False
            return True


class _Listener:
    """One FIFO and the thread that reads it."""

    def __init__(self, folder: Path, topic: str, heard: Callable[[], None], nap: float) -> None:
        self._nap = nap
        self.path = folder / f"{topic}-{os.getpid()}-{uuid4().hex}"
        self._heard = heard
        # Made under a hidden name and opened before it is renamed: no ringer ever sees it without its reader.
        hidden = folder / f".{self.path.name}"
        os.mkfifo(hidden)
        self._read = os.open(hidden, os.O_RDONLY | os.O_NONBLOCK)
        # An own write end keeps the reader from seeing an endless hang-up once a ringer has closed its end.
        self._write = os.open(hidden, os.O_WRONLY | os.O_NONBLOCK)
        hidden.rename(self.path)
        self._stop, self._stopped = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"bell-{topic}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        poll.register(self._stop, select.POLLIN | select.POLLHUP)
        end = select.poll()
        end.register(self._stop, select.POLLIN | select.POLLHUP)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._stop in ready:
                return
            os.read(self._read, _DRAIN_BYTES)
            self._heard()
            if self._nap and end.poll(self._nap * 1000):
                return

    def close(self) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._stopped)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        for fd in (self._read, self._write, self._stop):
            os.close(fd)


def _poke(fifo: Path) -> None:
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # Its process died without taking it away.
            fifo.unlink(missing_ok=True)
        return
    try:
        os.write(fd, b"!")
    except BlockingIOError:
        pass  # Full: its reader has more than enough to wake up for.
    except BrokenPipeError:
        fifo.unlink(missing_ok=True)
    finally:
        os.close(fd)
