"""Opaque cursors: where a list goes on. A cursor is good for the list and the tenant that it was given to alone.

A cursor is ``base64url(tag || text)``: text ``[listing, position]``, tag 16 bytes of HMAC-SHA-256 of tenant and text.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from typing import TYPE_CHECKING

from tensorguard.crypto.binding import bind

from api.errors import ApiError

if TYPE_CHECKING:
    from producers.installation import Installation

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_DOMAIN = b"tensorguard/cursor/v1"
_TAG = 16


class Cursors:
    """Makes cursors, and reads those that it made."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, _DOMAIN, "sha256")

    @classmethod
    def of(cls, installation: Installation) -> Cursors:
        """The cursors of an installation: under TG_SECRET_KEY, or else under a key of its data directory."""
        secret = installation.settings.secret_key
        return cls(secret.get_secret_value().encode() if secret else installation.api_key_pepper())

    def encode(self, tenant: str, listing: str, position: int) -> str:
        """The cursor of a tenant's list at a position."""
        text = json.dumps([listing, position], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._tag(tenant, text) + text).decode().rstrip("=")

    def decode(self, tenant: str, listing: str, cursor: str | None) -> int | None:
        """The position that a cursor stands for; None for none.

        Raises:
            ApiError: invalid_request, it is not a cursor of this list.
        """
        if cursor is None:
            return None
        try:
            data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        tag, text = data[:_TAG], data[_TAG:]
        if not hmac.compare_digest(tag, self._tag(tenant, text)):
            raise _foreign()
        name, position = json.loads(text)
        if name != listing:
            raise _foreign()
        return int(position)

    def _tag(self, tenant: str, text: bytes) -> bytes:
        return hmac.digest(self._key, bind(_DOMAIN.decode(), tenant.encode(), text), "sha256")[:_TAG]


def _foreign() -> ApiError:
    return ApiError("invalid_request", "The cursor is not one of this list; start without one.")
