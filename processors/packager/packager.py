"""The packager as a processor: orders from the ledger, a file beside it, a report back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors import workshop
from processors.packager.orders import EVENTS, Desk
from processors.workshop import Workshop
from schemas.commands import FailPackage
from schemas.events import PackageRequested

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from processors.packager.orders import Order
    from processors.packager.workbench import Workbench
    from schemas.base import Command


class Packager(Workshop[PackageRequested]):
    """Makes packages; devices and models that they need may stand on other chains."""

    name = "packager"
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
        return FailPackage(order.request.package_id, code)

    def about(self, order: Order) -> dict[str, str]:
        """See :class:`processors.workshop.Workshop`."""
        return {"package_id": order.request.package_id.hex()}
