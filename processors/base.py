"""What a processor is: events in, intents out. It knows no transport, no keys and no ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from producers.feed import Recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schemas.base import Command, Event

__all__ = ["Intent", "Processor", "Recorded", "Settling"]


@dataclass(frozen=True, slots=True)
class Intent:
    """A command that a processor wants to be sent.

    Its command id is ``outcome_id(trigger, kind)``: the same trigger and kind, however often delivered, have one
    effect. ``expected_version`` is the stream version that it rests on, or None for any.
    """

    chain: str
    stream: str
    command: Command
    trigger: bytes
    kind: str
    expected_version: int | None = None


class Processor(Protocol):
    """Takes events of some types and answers with intents; ``role`` names the producer that signs them."""

    @property
    def name(self) -> str:
        """How logs call it."""

    @property
    def role(self) -> str:
        """Whose key signs its intents."""

    @property
    def events(self) -> frozenset[type[Event]]:
        """The event types that it takes."""

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        """What follows from one event. Delivery is at least once."""


@runtime_checkable
class Settling(Protocol):
    """A processor that wants to act on where things stand, not on each event on the way there."""

    def caught_up(self) -> Sequence[Intent]:
        """What follows once everything that is recorded has been handled."""
