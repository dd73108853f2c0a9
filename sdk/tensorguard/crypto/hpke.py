"""HPKE in base mode (RFC 9180) with the hybrid KEM ``MLKEM768_X25519`` (X-Wing, KEM id 0x647a).

Everything that a seal belongs to is bound through ``info``. A private key is X-Wing's 32-byte seed
(draft-connolly-cfrg-xwing-kem, section 5.2): SHAKE256 expands it to the ML-KEM-768 seed (64 bytes) and the X25519
key (32 bytes). A public key is 1,216 bytes, ML-KEM first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256, shake_256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tensorguard.crypto.errors import KeyMalformedError, WrongKeyError

SUITE_NAME: Final = "HPKE-MLKEM768_X25519-HKDF_SHA256-AES_256_GCM"
SEED_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
PUBLIC_BYTES = MLKEM_PUBLIC_BYTES + 32
OVERHEAD_BYTES = 1088 + 32 + 16

_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class HpkePrivateKey:
    """An X-Wing seed. Its text form shows nothing of it."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_BYTES:
            raise KeyMalformedError(f"An X-Wing seed is {SEED_BYTES} bytes long, not {len(self.seed)}.")

    @classmethod
    def generate(cls) -> HpkePrivateKey:
        """A new key."""
        return cls(os.urandom(SEED_BYTES))

    @property
    def public_key(self) -> bytes:
        """The raw public key: 1,216 bytes."""
        pq, classic = self._components()
        return pq.public_key().public_bytes_raw() + classic.public_key().public_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What was sealed to this key for this ``info``.

        Raises:
            WrongKeyError: it was sealed to another key or for another ``info``, or its bytes were changed.
        """
        try:
            return _SUITE.decrypt(sealed, hpke.MLKEM768X25519PrivateKey(*self._components()), info=info)
        except (InvalidTag, ValueError) as error:
            raise WrongKeyError("A sealed key does not open with this private key for this purpose.") from error

    def _components(self) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
        expanded = shake_256(self.seed).digest(96)
        return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])


def seal(public_key: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Seal to a raw public key: encapsulated key, ciphertext and tag, 1,136 bytes longer than the plaintext.

    Raises:
        KeyMalformedError: the public key is none, or a degenerate one.
    """
    if len(public_key) != PUBLIC_BYTES:
        raise KeyMalformedError(f"An X-Wing public key is {PUBLIC_BYTES} bytes long, not {len(public_key)}.")
    try:
        pq = MLKEM768PublicKey.from_public_bytes(public_key[:MLKEM_PUBLIC_BYTES])
        classic = X25519PublicKey.from_public_bytes(public_key[MLKEM_PUBLIC_BYTES:])
        return _SUITE.encrypt(plaintext, hpke.MLKEM768X25519PublicKey(pq, classic), info=info)
    except ValueError as error:
        raise KeyMalformedError("Bytes are no usable X-Wing public key.") from error


def key_id_of(public_key: bytes) -> bytes:
    """SHA-256 of a raw public key."""
    return sha256(public_key).digest()
