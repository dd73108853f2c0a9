"""Letting this installation's producers speak on every chain of a ledger that an older build may have written.

A role that came later is unknown on the chains of before, and whatever is reported under it would be refused there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from producers.errors import NoDecisionError
from producers.submitter import ENROLLED

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from api.platform import Platform

GLANCE_SECONDS = 1.0
log = structlog.get_logger(__name__)


def enrol_everywhere(platform: Platform, stop: threading.Event) -> None:
    """Enrol what is lacking, chain by chain, until that is done or ``stop`` is set; any number of processes may.

    Raises:
        ProjectionError: the views stand still.
    """
    while not (stop.is_set() or platform.projector.wait_for_all(GLANCE_SECONDS)):
        pass
    for chain in _lacking(platform):
        while not stop.is_set() and not _enrolled(platform, chain):
            pass


def _lacking(platform: Platform) -> Iterator[str]:
    """The chains on which a key of ours never was; a key that was revoked there stays so."""
    keys = [platform.installation.producer(role).key_id.hex() for role in ENROLLED]
    complete = set.intersection(*(platform.views.chains_of_producer(key) for key in keys))
    yield from sorted(set(platform.engine.chains()) - complete)


def _enrolled(platform: Platform, chain: str) -> bool:
    """Enrol them on one chain; False where nobody has decided it yet."""
    try:
        platform.submitter.ensure_chain(chain)
    except NoDecisionError:
        return False
    except TensorGuardError as error:
        log.warning("chain_not_enrolled", chain=chain, code=error.code)
    else:
        log.info("chain_enrolled", chain=chain)
    return True
