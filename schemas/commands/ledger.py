"""Where the ledger is written."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Command


@dataclass(frozen=True, slots=True)
class MoveLedger(Command):
    """End a chain here: it goes on in another ledger of this name."""

    ledger: str


@dataclass(frozen=True, slots=True)
class ContinueLedger(Command):
    """Go on with a chain that was moved here, into the ledger of this name."""

    ledger: str
