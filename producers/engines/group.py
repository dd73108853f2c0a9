"""Group commit: many threads hand in work, one of them does it for all."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False)
class _Ticket(Generic[T, R]):
    items: Sequence[T]
    results: Sequence[R] = ()
    error: BaseException | None = None
    done: bool = field(default=False)


class GroupCommit(Generic[T, R]):
    """Merges what threads hand in while an earlier ``apply`` runs into one call of it.

    ``apply`` takes items and returns one result per item; what it raises is raised to every thread of that group.
    """

    def __init__(self, apply: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._apply = apply
        self._pending: list[_Ticket[T, R]] = []
        self._pending_lock = threading.Lock()
        self._leading = threading.Lock()

    def submit(self, items: Sequence[T]) -> Sequence[R]:
        """Hand in items and wait for their results."""
        ticket: _Ticket[T, R] = _Ticket(items)
        with self._pending_lock:
            self._pending.append(ticket)
        with self._leading:
            if not ticket.done:
                self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.results

    def _lead(self) -> None:
        with self._pending_lock:
            group, self._pending = self._pending, []
        try:
            results = self._apply([item for ticket in group for item in ticket.items])
        except BaseException as error:  # noqa: BLE001 -- every thread of the group must learn of it
            for ticket in group:
                ticket.error, ticket.done = error, True
            return
        start = 0
        for ticket in group:
            ticket.results = results[start : start + len(ticket.items)]
            ticket.done = True
            start += len(ticket.items)
