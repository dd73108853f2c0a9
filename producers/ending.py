"""How an operator or a supervisor tells a process to end."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def when_told_to_end(end: Callable[[], None]) -> None:
    """Have SIGTERM and SIGINT call ``end`` and do nothing else; from the main thread."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end())
