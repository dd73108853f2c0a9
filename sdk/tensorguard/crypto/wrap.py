"""AES-256 key wrap with padding (AES-256-KWP, SP 800-38F, RFC 5649), and the keys that wrap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap_with_padding, aes_key_wrap_with_padding

from tensorguard.crypto.errors import KeyMalformedError, WrongKeyError

ALGORITHM: Final = "AES-256-KWP"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Dek:
    """A tenant's data-encryption key: it wraps the keys of single artifacts. Its text form shows only the id."""

    id: str
    key: bytes = field(repr=False)


def wrap_key(wrapping_key: bytes, key: bytes) -> bytes:
    """A key wrapped under a 32-byte key; 8 bytes longer than its padded length.

    Raises:
        KeyMalformedError: the wrapping key is not 32 bytes, or the key is empty.
    """
    if len(wrapping_key) != KEY_BYTES or not key:
        raise KeyMalformedError("Key wrap takes a 32-byte wrapping key and a key that is not empty.")
    return aes_key_wrap_with_padding(wrapping_key, key)


def unwrap_key(wrapping_key: bytes, wrapped: bytes) -> bytes:
    """The key inside.

    Raises:
        KeyMalformedError: the wrapping key is not 32 bytes.
        WrongKeyError: it was wrapped under another key, or its bytes were changed.
    """
    if len(wrapping_key) != KEY_BYTES:
        raise KeyMalformedError("Key wrap takes a 32-byte wrapping key.")
    try:
        return aes_key_unwrap_with_padding(wrapping_key, wrapped)
    except InvalidUnwrap as error:
        raise WrongKeyError("A wrapped key does not open under this wrapping key.") from error
