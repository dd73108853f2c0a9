"""Composite signatures ``MLDSA65-Ed25519-SHA512``: ML-DSA-65 and Ed25519 over one message, both must verify.

Source: draft-ietf-lamps-pq-composite-sigs-19. Message representative and context: section 2.2; sign and verify:
sections 3.2 and 3.3; encodings: section 4 (plain concatenation, ML-DSA first); algorithm
``id-MLDSA65-Ed25519-SHA512`` with its label: section 6. The component keys are never used alone and never enter
another key (section 9.3). A private key is two seeds of 32 bytes, ML-DSA first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256, sha512
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tensorguard.crypto import mldsa
from tensorguard.crypto.errors import CryptoError, KeyMalformedError, SignatureInvalidError

ALGORITHM: Final = "MLDSA65-Ed25519-SHA512"
OID = "1.3.6.1.5.5.7.6.48"
PREFIX = b"CompositeAlgorithmSignatures2025"
LABEL = b"COMPSIG-MLDSA65-Ed25519-SHA512"
ED25519_BYTES = 32
PRIVATE_BYTES = mldsa.SEED_BYTES + ED25519_BYTES
PUBLIC_BYTES = mldsa.PUBLIC_BYTES + ED25519_BYTES
SIGNATURE_BYTES = mldsa.SIGNATURE_BYTES + 64
MAX_CONTEXT_BYTES = 255

_PROVIDER: mldsa.SignatureProvider = mldsa.CryptographyProvider()


def message_representative(message: bytes, context: bytes) -> bytes:
    """``M' = Prefix || Label || len(ctx) || ctx || SHA-512(M)`` (section 2.2).

    Raises:
        CryptoError: the context is longer than 255 bytes.
    """
    if len(context) > MAX_CONTEXT_BYTES:
        raise CryptoError("A signature context is at most 255 bytes long.", next_step="Use a shorter context.")
    return PREFIX + LABEL + bytes([len(context)]) + context + sha512(message).digest()


@dataclass(frozen=True, slots=True)
class CompositePublicKey:
    """1,984 bytes: the ML-DSA-65 public key, then the Ed25519 one."""

    data: bytes
    provider: mldsa.SignatureProvider = field(default=_PROVIDER, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.data) != PUBLIC_BYTES:
            raise KeyMalformedError(f"A composite public key is {PUBLIC_BYTES} bytes long, not {len(self.data)}.")

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the public key: how manifests and the ledger name it."""
        return sha256(self.data).digest()

    def verify(self, signature: bytes, message: bytes, context: bytes) -> None:
        """Check both halves; one of them is worth nothing.

        Raises:
            SignatureInvalidError: the length is wrong, or a half does not verify.
            KeyMalformedError: a half of the public key is no key.
        """
        if len(signature) != SIGNATURE_BYTES:
            raise SignatureInvalidError(f"A composite signature is {SIGNATURE_BYTES} bytes long.")
        representative = message_representative(message, context)
        pq_half, classic_half = signature[: mldsa.SIGNATURE_BYTES], signature[mldsa.SIGNATURE_BYTES :]
        self.provider.verify(self.data[: mldsa.PUBLIC_BYTES], pq_half, representative, LABEL)
        try:
            classic = Ed25519PublicKey.from_public_bytes(self.data[mldsa.PUBLIC_BYTES :])
            classic.verify(classic_half, representative)
        except (InvalidSignature, ValueError) as error:
            raise SignatureInvalidError("The Ed25519 half of a signature does not verify.") from error


@dataclass(frozen=True, slots=True)
class CompositePrivateKey:
    """64 bytes: the ML-DSA-65 seed, then the Ed25519 seed. Its text form shows neither."""

    data: bytes = field(repr=False)
    provider: mldsa.SignatureProvider = field(default=_PROVIDER, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.data) != PRIVATE_BYTES:
            raise KeyMalformedError(f"A composite private key is {PRIVATE_BYTES} bytes long, not {len(self.data)}.")

    @classmethod
    def generate(cls) -> CompositePrivateKey:
        """A new key: two fresh seeds (section 3.1)."""
        return cls(os.urandom(PRIVATE_BYTES))

    @property
    def public_key(self) -> CompositePublicKey:
        """The public key of both seeds."""
        pq_seed, classic = self._halves()
        return CompositePublicKey(
            self.provider.public_key(pq_seed) + classic.public_key().public_bytes_raw(), self.provider
        )

    def sign(self, message: bytes, context: bytes) -> bytes:
        """A signature of 3,373 bytes; randomised, so it must be kept, not made again.

        Raises:
            CryptoError: the context is longer than 255 bytes.
        """
        pq_seed, classic = self._halves()
        representative = message_representative(message, context)
        return self.provider.sign(pq_seed, representative, LABEL) + classic.sign(representative)

    def _halves(self) -> tuple[bytes, Ed25519PrivateKey]:
        seed = self.data[mldsa.SEED_BYTES :]
        return self.data[: mldsa.SEED_BYTES], Ed25519PrivateKey.from_private_bytes(seed)
