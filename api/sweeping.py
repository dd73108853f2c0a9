"""Inputs in memory that nobody will take any more: their command was never decided, or their trainer died in between.

A door that dies after it has handed an input over leaves it at the exchange. Commands are good for an hour, so what has
lain there for two and belongs to no operation that waits never will.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

if TYPE_CHECKING:
    import threading

    from api.platform import Platform

OLD_SECONDS = 7200.0
PAUSE_SECONDS = 600.0
VIEWS_SECONDS = 30.0
log = structlog.get_logger(__name__)


def keep_sweeping(platform: Platform, stop: threading.Event) -> None:
    """Look every ten minutes, until told to stop."""
    while not stop.wait(PAUSE_SECONDS):
        sweep(platform)


def sweep(platform: Platform) -> int:
    """Drop them; how many there were."""
    try:
        found = platform.exchange.inputs_older_than(OLD_SECONDS)
        if not found or not platform.projector.wait_for_all(VIEWS_SECONDS):
            return 0
        pending = platform.views.pending_ids()
        stale = [each for each in found if each.hex() not in pending]
        for operation_id in stale:
            platform.exchange.drop_input(operation_id)
    except TensorGuardError:  # the hub is away, say: what was there is gone with it, or is looked at next time
        return 0
    if stale:
        log.info("inputs_swept", number=len(stale))
    return len(stale)
