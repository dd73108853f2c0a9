"""One processor for all chains out of one for each: what it knows of a chain, and does for it, touches no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.base import Settling

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processors.base import Intent, Processor, Recorded
    from schemas.base import Event


class PerChain:
    """A processor that has one made by ``make`` for every chain that it meets, all of one name, role and events."""

    def __init__(self, name: str, role: str, events: frozenset[type[Event]], make: Callable[[str], Processor]) -> None:
        self.name, self.role, self.events = name, role, events
        self._make = make
        self._made: dict[str, Processor] = {}

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        """What follows from one event, for its chain."""
        if recorded.chain not in self._made:
            self._made[recorded.chain] = self._make(recorded.chain)
        return self._made[recorded.chain].handle(recorded)

    def caught_up(self) -> Sequence[Intent]:
        """What follows for every chain, once everything that is recorded has been handled."""
        return [intent for made in self._made.values() if isinstance(made, Settling) for intent in made.caught_up()]
