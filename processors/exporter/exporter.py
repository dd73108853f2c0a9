"""The exporter as a processor: orders from the ledger, sealed files beside it, a report back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors import workshop
from processors.exporter.orders import EVENTS, Desk
from processors.workshop import Workshop
from schemas.commands import FailArtifactExport
from schemas.events import ArtifactExportRequested

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from processors.exporter.orders import Order
    from processors.exporter.workbench import Workbench
    from schemas.base import Command


class Exporter(Workshop[ArtifactExportRequested]):
    """Makes exports; base models that they need stand on another chain."""

    name = "exporter"
    events = EVENTS

    def __init__(
        self, workbench: Workbench, turn: Callable[[str], AbstractContextManager[bool]] = workshop.alone
    ) -> None:
        self._workbench = workbench
        self._orders = Desk()
        super().__init__(self._orders, turn)

    def make(self, order: Order) -> Command:
        """See :class:`processors.workshop.Workshop`."""
        return self._workbench.make(order, self._orders)

    def failure(self, order: Order, code: str) -> Command:
        """See :class:`processors.workshop.Workshop`."""
        return FailArtifactExport(order.request.run_id, order.request.export_id, code)

    def about(self, order: Order) -> dict[str, str]:
        """See :class:`processors.workshop.Workshop`."""
        return {"export_id": order.request.export_id.hex()}
