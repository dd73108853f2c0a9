"""The packager as a processor: orders from the ledger, a file beside it, a report back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from processors.base import Intent
from processors.packager.orders import EVENTS, Desk, Order
from schemas.commands import FailPackage, RecordPackageSigned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processors.base import Recorded
    from processors.packager.workbench import Workbench

log = structlog.get_logger(__name__)


class Packager:
    """Makes what was asked for once everything recorded is known: devices and models may stand on other chains."""

    name = "packager"
    role = "packager"
    events = EVENTS

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._desk = Desk()

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        """Fold; nothing follows yet."""
        self._desk.take(recorded)
        return ()

    def caught_up(self) -> Sequence[Intent]:
        """The outcome of every order that waits."""
        return [self._fulfil(order) for order in self._desk.hand_out()]

    def _fulfil(self, order: Order) -> Intent:
        package_id = order.request.package_id
        try:
            made = self._workbench.make(order, self._desk)
        except TensorGuardError as error:
            log.warning("package_failed", package_id=package_id.hex(), code=error.code)
            return _intent(order, FailPackage(package_id, error.code))
        except Exception as error:
            log.exception("package_failed", package_id=package_id.hex(), error=type(error).__name__)
            return _intent(order, FailPackage(package_id, "internal_error"))
        log.info("package_signed", package_id=package_id.hex(), package_digest=made.package_digest.hex())
        return _intent(order, made)


def _intent(order: Order, command: RecordPackageSigned | FailPackage) -> Intent:
    stream = f"package/{order.request.package_id.hex()}"
    return Intent(order.chain, stream, command, order.trigger, type(command).__name__)
