"""A thread of the server: it runs for the length of a block, and what ends it too early ends the server."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREAD_SECONDS = 2.0
log = structlog.get_logger(__name__)


class Part:
    """A thread of the server that runs until told to stop; if it fails, the server ends with its error."""

    def __init__(
        self, name: str, run: Callable[[threading.Event], None], on_fault: Callable[[Exception], None]
    ) -> None:
        self._name = name
        self._run = run
        self._on_fault = on_fault
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    @contextmanager
    def running(self) -> Iterator[Part]:
        """Run it for the length of a block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(THREAD_SECONDS)

    def _main(self) -> None:
        try:
            self._run(self._stop)
        except Exception as error:
            log.exception("part_failed", part=self._name)
            self._on_fault(error)
