"""Whether a ledger may be written where it is: not once it was moved, and not in a copy from before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from producers.deciders.registry import PLATFORM
from producers.errors import LedgerMovedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from producers.sequencer.fold import ChainFold


@dataclass(frozen=True, slots=True)
class Place:
    """What a writer knows of the place where it writes.

    ``home`` is the name of the installation's ledger, None if it was never moved. Who moves a ledger says where to by
    ``moving_to``: it alone may open both ends of this one move.
    """

    home: str | None = None
    moving_to: str | None = None

    def check(self, folds: Mapping[str, ChainFold]) -> LedgerMovedError | None:
        """Why nothing but the move itself is decided here, if a chain ends here.

        Raises:
            LedgerMovedError: nobody may write here, or not who asks.
        """
        ended = self._ended(folds)
        if ended is not None and self.moving_to is None:
            raise ended
        name = folds[PLATFORM].ledger().name if PLATFORM in folds else ""
        if self.home not in (None, name):
            raise LedgerMovedError(
                f"This installation's ledger is {self.home!r}; what is here is another one, or a copy from before."
            )
        return ended

    def _ended(self, folds: Mapping[str, ChainFold]) -> LedgerMovedError | None:
        for chain, fold in folds.items():
            ledger = fold.ledger().moved_to
            if ledger is not None:
                at = f"Chain {chain!r} ends here with record {fold.head.size - 1}"
                ended = LedgerMovedError(f"{at}: the ledger was moved, and goes on as {ledger!r}.")
                if self.moving_to in (None, ledger):
                    return ended
                raise ended
        return None
