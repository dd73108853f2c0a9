"""Salted commitments: how the ledger refers to a batch, prompts or completions without holding them.

``commitment = SHA-256(DOMAIN || salt || SHA-256(canonical bytes))``. Whoever has the salt and the data can open a
commitment to an auditor; with the salt forgotten, the ledger says nothing about the data. Nothing here does I/O or
draws randomness.
"""

from __future__ import annotations

import json
from hashlib import sha256
from hmac import compare_digest

from tensorguard.errors import TensorGuardError

DOMAIN = b"tensorguard/commitment/v1\x00"
SALT_BYTES = 32
ALGORITHM = "sha256-salted"


class CommitmentError(TensorGuardError):
    """Base of every commitment error."""

    code = "commitment_error"


class UncommittableError(CommitmentError):
    """A value that has no canonical bytes."""

    code = "uncommittable"
    next_step = "Commit to plain JSON values: objects with text keys, lists, text, finite numbers, booleans, null."


class SaltError(CommitmentError):
    """A salt of the wrong length or spelling."""

    code = "invalid_salt"
    next_step = "Use 32 random bytes, written as 64 hexadecimal digits: secrets.token_hex(32)."


class CommitmentMismatchError(CommitmentError):
    """Data and salt do not open a commitment."""

    code = "commitment_mismatch"
    next_step = "Check that salt and data are those of this very request, byte for byte."


def canonical(value: object) -> bytes:
    """The bytes that stand for a JSON value: UTF-8, sorted keys, no spaces, no escapes beyond JSON's own.

    Raises:
        UncommittableError: the value is no JSON, has a NaN or an infinity, a key that is no text, or a lone surrogate.
    """
    try:
        _check_keys(value)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise UncommittableError("The value has no canonical bytes.") from error


def _check_keys(value: object) -> None:
    # json.dumps turns the keys 1 and True into text, so two different values would share their bytes.
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError
        for item in value.values():
            _check_keys(item)
    elif isinstance(value, list | tuple) and not _is_flat(value):
        for item in value:
            _check_keys(item)


def _is_flat(value: list[object] | tuple[object, ...]) -> bool:
    return set(map(type, value)) <= {int, str, float, bool}


def commit(salt: bytes, data: bytes) -> bytes:
    """The 32-byte commitment to canonical bytes under a 32-byte salt.

    Raises:
        SaltError: the salt is not 32 bytes long.
    """
    if len(salt) != SALT_BYTES:
        raise SaltError(f"The salt has {len(salt)} bytes, not {SALT_BYTES}.")
    return sha256(DOMAIN + salt + sha256(data).digest()).digest()


def parse_salt(text: str) -> bytes:
    """The salt that 64 hexadecimal digits spell.

    Raises:
        SaltError: other characters or another length.
    """
    if len(text) != 2 * SALT_BYTES or not set(text) <= set("0123456789abcdefABCDEF"):
        raise SaltError(f"The salt is not {2 * SALT_BYTES} hexadecimal digits.")
    return bytes.fromhex(text)


def check(commitment: bytes, salt: bytes, data: bytes) -> None:
    """Open a commitment.

    Raises:
        CommitmentMismatchError: salt and data do not lead to it.
        SaltError: the salt is not 32 bytes long.
    """
    if not compare_digest(commit(salt, data), commitment):
        raise CommitmentMismatchError("The commitment is not to this data under this salt.")
