"""How an event finds its handler, and what a handler may use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy import insert
from sqlalchemy.orm import Session

from producers.feed import Recorded
from projections.models import AuditEntry
from schemas.base import Event

E = TypeVar("E", bound=Event)
Handler = Callable[["View", Recorded, Any], None]


class View:
    """The views inside one transaction.

    ``touched`` collects the ids that waiters may be waiting for, ``audit`` the rows of the records' entries: nothing
    reads or changes those again, so they are written together and do without objects of their own.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.touched: set[str] = set()
        self.audit: list[dict[str, Any]] = []

    def write_audit(self) -> None:
        """Write the entries."""
        if self.audit:
            self.session.connection().execute(insert(AuditEntry), self.audit)


class Handlers:
    """Event class -> function that writes what the event changed."""

    def __init__(self, parts: Iterable[Handlers] = ()) -> None:
        self.by_event: dict[type[Event], Handler] = {}
        for part in parts:
            self.by_event |= part.by_event

    def on(
        self, event: type[E]
    ) -> Callable[[Callable[[View, Recorded, E], None]], Callable[[View, Recorded, E], None]]:
        """Register the decorated function for an event class."""

        def register(function: Callable[[View, Recorded, E], None]) -> Callable[[View, Recorded, E], None]:
            self.by_event[event] = function
            return function

        return register

    def apply(self, view: View, at: Recorded) -> None:
        """Let the event's handler write; events without one change no view of their own."""
        handler = self.by_event.get(type(at.event))
        if handler is not None:
            handler(view, at, at.event)
