"""SIGTERM, heard at once: Python's own handlers wait until a long operation of the main thread is over."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Ending:
    """``stop`` is set by SIGTERM; the main thread makes it."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._told: list[Callable[[], None]] = []
        self._end, written = os.pipe()
        os.set_blocking(written, False)
        signal.signal(signal.SIGTERM, lambda *_: self.stop.set())
        signal.set_wakeup_fd(written)
        threading.Thread(target=self._listen, name="ending", daemon=True).start()

    def then(self, call: Callable[[], None]) -> None:
        """Have something called at that moment, from another thread; at once if that has come."""
        with self._lock:
            self._told.append(call)
            come = self.stop.is_set()
        if come:
            call()

    def _listen(self) -> None:
        while signal.SIGTERM not in os.read(self._end, 1):
            pass
        with self._lock:
            self.stop.set()
            told = tuple(self._told)
        for call in told:
            call()
