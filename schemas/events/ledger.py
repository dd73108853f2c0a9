"""Where the ledger is written."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Event


@dataclass(frozen=True, slots=True)
class LedgerMoved(Event):
    """The chain ends here: only the ledger of this name goes on behind this record."""

    ledger: str


@dataclass(frozen=True, slots=True)
class LedgerContinued(Event):
    """The chain goes on, in the ledger of this name."""

    ledger: str
