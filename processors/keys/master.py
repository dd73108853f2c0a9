"""The master secret that wraps a KEK kept in a file, so that a copy of the file opens nothing.

The wrapping key is Argon2id (RFC 9106; 64 MiB, 3 passes, 4 lanes) of the secret. It is derived once a process and kept
in its memory: a derivation takes about a sixth of a second, a key is asked for at every checkpoint.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from tensorguard.crypto import wrap
from tensorguard.crypto.errors import CryptoError

from processors.keys.port import KeyLockedError, KeyLostError

if TYPE_CHECKING:
    from pydantic import SecretStr

FORMAT = 1
KDF: Final = "argon2id"
MEMORY_KIB, PASSES, LANES = 64 << 10, 3, 4
_SALT_BYTES = 16
_DERIVING = threading.Lock()
_KEY = re.compile(r"[0-9a-fA-F]{64}")


def secret_of(text: SecretStr | None) -> bytes | None:
    """The master secret that an operator has set: a passphrase, or 32 bytes as hexadecimal digits."""
    if text is None:
        return None
    value = text.get_secret_value()
    return bytes.fromhex(value) if _KEY.fullmatch(value) else value.encode()


def is_wrapped(data: bytes) -> bool:
    """Whether the bytes of a KEK's file are a wrapped KEK; a bare one is exactly as long as a key."""
    return len(data) != wrap.KEY_BYTES


def wrap_kek(secret: bytes, kek: bytes) -> bytes:
    """The content of a KEK's file under a master secret: JSON with salt, parameters and the wrapped key."""
    salt = secrets.token_bytes(_SALT_BYTES)
    entry = {
        "format": FORMAT,
        "kdf": KDF,
        "memory_kib": MEMORY_KIB,
        "passes": PASSES,
        "lanes": LANES,
        "salt": salt.hex(),
        "algorithm": wrap.ALGORITHM,
        "wrapped": wrap.wrap_key(_derived(secret, salt), kek).hex(),
    }
    return json.dumps(entry).encode() + b"\n"


def unwrap_kek(secret: bytes | None, data: bytes) -> bytes:
    """The KEK in the content of a file.

    Raises:
        KeyLockedError: there is no master secret, or it is another one.
        KeyLostError: the file is damaged, or wrapped in a way that this version does not know.
    """
    salt, wrapped = _entry(data)
    if secret is None:
        raise KeyLockedError("The key-encryption key is wrapped under a master secret, and none is set.")
    try:
        return wrap.unwrap_key(_derived(secret, salt), wrapped)
    except CryptoError as error:
        raise KeyLockedError("The key-encryption key does not open under the master secret that is set.") from error


def _entry(data: bytes) -> tuple[bytes, bytes]:
    try:
        entry: dict[str, Any] = json.loads(data)
        made = tuple(entry[name] for name in ("format", "kdf", "memory_kib", "passes", "lanes", "algorithm"))
        salt, wrapped = bytes.fromhex(entry["salt"]), bytes.fromhex(entry["wrapped"])
    except (ValueError, KeyError, TypeError) as error:
        raise KeyLostError("The file of the key-encryption key is damaged.") from error
    if made != (FORMAT, KDF, MEMORY_KIB, PASSES, LANES, wrap.ALGORITHM):
        raise KeyLostError("The key-encryption key was wrapped in a way that this version does not know.")
    if len(salt) != _SALT_BYTES:
        raise KeyLostError("The file of the key-encryption key is damaged.")
    return salt, wrapped


def _derived(secret: bytes, salt: bytes) -> bytes:
    # Two derivations at once hang or fail inside OpenSSL: its threads are one pool for the whole process.
    with _DERIVING:
        return _derive(secret, salt)


@lru_cache(maxsize=4)
def _derive(secret: bytes, salt: bytes) -> bytes:
    kdf = Argon2id(salt=salt, length=wrap.KEY_BYTES, iterations=PASSES, lanes=LANES, memory_cost=MEMORY_KIB)
    return kdf.derive(secret)
