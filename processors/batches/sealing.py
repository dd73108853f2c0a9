"""How inputs and results are sealed: AES-256-GCM under keys that the tenant's DEK wraps, both bound to their place.

Sealed bytes are ``version (1) || nonce (12) || ciphertext || tag (16)``, with the place as additional data. A wrapped
key is ``version (1) || AES-256-KWP(DEK, key (32) || hash of the place (32))``: under another name it does not open.
"""

from __future__ import annotations

import os
from hmac import compare_digest
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tensorguard.crypto import wrap
from tensorguard.crypto.binding import bind, bound_hash
from tensorguard.crypto.errors import StreamDamagedError, UnknownAlgorithmError, WrongKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_BYTES = wrap.KEY_BYTES
EXPIRY_BYTES = 8
WRAPPED_BYTES = 1 + 2 * KEY_BYTES + 8
_VERSION = b"\x01"
_NONCE_BYTES = 12
_LATEST = (1 << 63) - 1


def seal(key: bytes, place: bytes, data: bytes, random_bytes: Callable[[int], bytes] = os.urandom) -> bytes:
    """Data sealed under a 32-byte key for one place."""
    nonce = random_bytes(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, data, place)


def unseal(key: bytes, place: bytes, sealed: bytes) -> bytes:
    """The data of :func:`seal`.

    Raises:
        UnknownAlgorithmError: it was sealed by a version that this build does not know.
        StreamDamagedError: it was changed or cut short, or is of another key or place.
    """
    _check_version(sealed)
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, place)
    except (InvalidTag, ValueError) as error:
        raise StreamDamagedError("Sealed data does not open in this place.") from error


def wrap_key(dek: wrap.Dek, place: bytes, key: bytes) -> bytes:
    """A 32-byte key wrapped for one place: 73 bytes."""
    return _VERSION + wrap.wrap_key(dek.key, key + _place_hash(place))


def unwrap_key(dek: wrap.Dek, place: bytes, wrapped: bytes) -> bytes:
    """The key of :func:`wrap_key`.

    Raises:
        UnknownAlgorithmError: it was wrapped by a version that this build does not know.
        WrongKeyError: it was changed, or is of another tenant or place.
    """
    _check_version(wrapped)
    opened = wrap.unwrap_key(dek.key, wrapped[1:])
    key, bound = opened[:KEY_BYTES], opened[KEY_BYTES:]
    if not compare_digest(bound, _place_hash(place)):
        raise WrongKeyError("A wrapped key is of another place.")
    return key


def expiry(moment: int) -> bytes:
    """When something goes (microseconds since the epoch), in the 8 bytes that its place is bound to."""
    return min(moment, _LATEST).to_bytes(EXPIRY_BYTES, "big")


def expires_at(stored: bytes) -> int:
    """The moment of :func:`expiry`, from bytes that begin with it."""
    return int.from_bytes(stored[:EXPIRY_BYTES], "big")


def is_over(stored: bytes, now: int) -> bool:
    """Whether the time is over of what begins with its expiry."""
    return expires_at(stored) <= now


def place_of(domain: str, *parts: str | bytes | int) -> bytes:
    """One unambiguous byte string for where something lies: what :func:`seal` and :func:`wrap_key` bind to."""
    return bind(domain, *(part if isinstance(part, bytes) else str(part).encode() for part in parts))


def _place_hash(place: bytes) -> bytes:
    return bound_hash("tensorguard/place/v1", place)


def _check_version(data: bytes) -> None:
    if not data.startswith(_VERSION):
        raise UnknownAlgorithmError("Sealed data is of a version that this build does not know.")
