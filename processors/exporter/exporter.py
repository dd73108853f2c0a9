"""The exporter as a processor: orders from the ledger, sealed files beside it, a report back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from processors.base import Intent
from processors.exporter.orders import EVENTS, Desk, Order
from schemas.commands import FailArtifactExport, RecordArtifactExported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processors.base import Recorded
    from processors.exporter.workbench import Workbench

log = structlog.get_logger(__name__)


class Exporter:
    """Makes what was asked for once everything recorded is known; one after another."""

    name = "exporter"
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
        run_id, export_id = order.request.run_id, order.request.export_id
        try:
            made = self._workbench.make(order, self._desk)
        except TensorGuardError as error:
            log.warning("export_failed", export_id=export_id.hex(), code=error.code)
            return _intent(order, FailArtifactExport(run_id, export_id, error.code))
        except Exception as error:
            log.exception("export_failed", export_id=export_id.hex(), error=type(error).__name__)
            return _intent(order, FailArtifactExport(run_id, export_id, "internal_error"))
        log.info("artifact_exported", export_id=export_id.hex(), size_bytes=made.size_bytes)
        return _intent(order, made)


def _intent(order: Order, command: RecordArtifactExported | FailArtifactExport) -> Intent:
    return Intent(order.chain, f"run/{command.run_id}", command, order.trigger, type(command).__name__)
