"""Which adapters are in memory: those that are at work, and of the idle ones the newest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from processors.trainer.live import LiveRun

log = structlog.get_logger(__name__)


def make_room(runs: Collection[LiveRun], limit: int, most_bytes: int | None, save: Callable[[LiveRun], None]) -> None:
    """Move out the adapters that were idle longest while there are more than ``limit``, or more bytes than allowed.

    Only what a durable checkpoint covers leaves; what none covers yet is saved first, and leaves at a later call.
    """
    held = sorted((live for live in runs if live.adapter is not None), key=lambda live: live.used_at)
    sizes = {id(live): live.adapter.nbytes if live.adapter and most_bytes is not None else 0 for live in held}
    count, size = len(held), sum(sizes.values())
    for live in held[:-1]:
        if count <= limit and (most_bytes is None or size <= most_bytes):
            return
        if live.movable:
            live.free()
            count, size = count - 1, size - sizes[id(live)]
            log.info("adapter_moved_out", run_id=live.view.run_id)
        elif live.dirty and not live.writing and not live.ready:
            save(live)
