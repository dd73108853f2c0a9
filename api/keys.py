"""API keys: ``tg-key-<16 hex id>-<64 hex secret>``. The ledger knows a key by its keyed hash alone."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field

SCOPES: dict[str, str] = {
    "read": "see training clients, futures, artifacts, models, packages and devices",
    "train": "create training clients, send operations to them, cancel and close",
    "package": "ask for packages",
    "export": "fetch checkpoints' weights in the clear",
    "audit": "read audit logs, checkpoints and proofs of the tenant's chain",
    "metrics": "read the server's metrics, which count over all tenants; given only when it is named",
}
DEFAULT_SCOPES = tuple(scope for scope in SCOPES if scope != "metrics")
"""What a key may do when nothing is said: everything of its tenant, nothing of the operator's."""
_KEY = re.compile(r"tg-key-([0-9a-f]{16})-[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key: ``text`` is shown once and kept nowhere."""

    key_id: str
    text: str = field(repr=False)


def new_key() -> IssuedKey:
    """A random key: 64 bits of id, 256 bits of secret."""
    key_id = secrets.token_hex(8)
    return IssuedKey(key_id, f"tg-key-{key_id}-{secrets.token_hex(32)}")


def id_of(text: str) -> str | None:
    """The id inside a key's text; None if it is no key."""
    match = _KEY.fullmatch(text)
    return match[1] if match else None


def keyed_hash(pepper: bytes, text: str) -> bytes:
    """HMAC-SHA-256 of the whole key under the installation's pepper: what ``ApiKeyIssued`` holds."""
    return hmac.digest(pepper, text.encode(), "sha256")
