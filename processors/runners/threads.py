"""A few threads that do what they are given, and that never keep a process alive."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)


class Threads:
    """``count`` threads; what is given is begun in order. They end with the process, whatever they are doing."""

    def __init__(self, name: str, count: int) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        for number in range(count):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def give(self, work: Callable[[], None]) -> None:
        """Have something done; from any thread."""
        self._waiting.put(work)

    def _work(self) -> None:
        while True:
            work = self._waiting.get()
            try:
                work()
            except Exception as error:
                log.exception("work_failed", error=type(error).__name__)
