"""Copying a ledger from one log engine to another, and moving it there for good.

Read in this order: ``mover`` (what happens in which order), ``survey`` (reading a chain before it is believed),
``transfer`` (writing it), ``replies`` (what the destination must know of decisions), ``ends``,
``errors``.
"""

from producers.moving.ends import End
from producers.moving.mover import Moved, Mover

__all__ = ["End", "Moved", "Mover"]
