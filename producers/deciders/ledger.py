"""Where a chain is written: it ends in one ledger with a record, and goes on in another. Stream ``ledger``."""

from __future__ import annotations

from dataclasses import dataclass

from producers.deciders.context import Context, Decision, Rejected
from schemas.base import Command, Event
from schemas.commands import ContinueLedger, MoveLedger
from schemas.events import LedgerContinued, LedgerMoved

STREAM = "ledger"


@dataclass(frozen=True, slots=True)
class LedgerState:
    """The ledger that the chain is written in (empty: the one that it began in), and where it has gone, if it has."""

    name: str = ""
    moved_to: str | None = None


def decide(state: LedgerState | None, command: Command, _ctx: Context) -> Decision:
    """End the chain in one ledger, or go on with it in the other."""
    state = state or LedgerState()
    if isinstance(command, MoveLedger):
        return _move(state, command)
    if isinstance(command, ContinueLedger):
        return _continue(state, command)
    return Rejected("wrong_stream", "The ledger's stream takes MoveLedger and ContinueLedger only.")


def _move(state: LedgerState, command: MoveLedger) -> Decision:
    if command.ledger == state.name:
        return Rejected("already_exists", "The chain is in the ledger of this name.")
    return (LedgerMoved(command.ledger),)


def _continue(state: LedgerState, command: ContinueLedger) -> Decision:
    if command.ledger != state.moved_to:
        return Rejected("not_found", "The chain was not moved to a ledger of this name.")
    return (LedgerContinued(command.ledger),)


def moved_to(state: object | None) -> str | None:
    """The name of the ledger that goes on with a chain of this state; None while it goes on where it is."""
    return state.moved_to if isinstance(state, LedgerState) else None


def evolve(state: LedgerState | None, event: Event) -> LedgerState | None:
    """The state after one more event."""
    match event:
        case LedgerMoved():
            return LedgerState(state.name if state else "", event.ledger)
        case LedgerContinued():
            return LedgerState(event.ledger)
        case _:
            return state
