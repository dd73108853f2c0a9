"""What each event changes in the views, by aggregate."""

from projections.handlers import catalogue, identity, package, run
from projections.handlers.registry import Handlers, View

HANDLERS = Handlers(part.HANDLERS for part in (identity, catalogue, run, package))

__all__ = ["HANDLERS", "Handlers", "View"]
