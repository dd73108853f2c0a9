"""What each event changes in the views, by aggregate."""

from projections.handlers import artifacts, catalogue, identity, operations, package, run
from projections.handlers.registry import Handlers, View

HANDLERS = Handlers(part.HANDLERS for part in (identity, catalogue, run, operations, artifacts, package))

__all__ = ["HANDLERS", "Handlers", "View"]
