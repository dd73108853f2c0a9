"""Opaque cursors: where a list goes on. A cursor is good for the list that gave it alone."""

from __future__ import annotations

import base64
import json

from api.errors import ApiError

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_MAX_POSITION = 1 << 62


def encode(listing: str, position: int) -> str:
    """The cursor of a list at a position."""
    text = json.dumps([listing, position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(listing: str, cursor: str | None) -> int | None:
    """The position that a cursor stands for; None for none.

    Raises:
        ApiError: invalid_request, it is not a cursor of this list.
    """
    if cursor is None:
        return None
    try:
        value = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        value = None
    match value:
        case [str(name), int(position)] if name == listing and type(position) is int and 0 <= position < _MAX_POSITION:
            return position
        case _:
            raise ApiError("invalid_request", "The cursor is not one of this list; start without one.")
