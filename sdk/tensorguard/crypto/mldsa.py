"""The port to an ML-DSA-65 implementation, and the one that ``cryptography`` brings.

A second provider (another library, a hardware module) is a second class of this shape; all of them speak the
encodings of FIPS 204: a private key is its 32-byte seed, a public key 1,952 bytes, a signature 3,309 bytes.
"""

from __future__ import annotations

from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from tensorguard.crypto.errors import KeyMalformedError, SignatureInvalidError

SEED_BYTES = 32
PUBLIC_BYTES = 1952
SIGNATURE_BYTES = 3309


class SignatureProvider(Protocol):
    """ML-DSA-65 with a context string, over bytes."""

    def public_key(self, seed: bytes) -> bytes:
        """The public key of a 32-byte seed.

        Raises:
            KeyMalformedError: the seed has another length.
        """

    def sign(self, seed: bytes, message: bytes, context: bytes) -> bytes:
        """A randomised (hedged) signature; two calls give two signatures."""

    def verify(self, public_key: bytes, signature: bytes, message: bytes, context: bytes) -> None:
        """Check a signature.

        Raises:
            KeyMalformedError: the public key is none.
            SignatureInvalidError: the signature is not this key's over this message and context.
        """


class CryptographyProvider:
    """ML-DSA-65 by the ``cryptography`` package and the OpenSSL inside it."""

    def public_key(self, seed: bytes) -> bytes:
        """See :class:`SignatureProvider`."""
        return _private(seed).public_key().public_bytes_raw()

    def sign(self, seed: bytes, message: bytes, context: bytes) -> bytes:
        """See :class:`SignatureProvider`."""
        return _private(seed).sign(message, context)

    def verify(self, public_key: bytes, signature: bytes, message: bytes, context: bytes) -> None:
        """See :class:`SignatureProvider`."""
        try:
            key = MLDSA65PublicKey.from_public_bytes(public_key)
        except ValueError as error:
            raise KeyMalformedError("Bytes are no ML-DSA-65 public key.") from error
        try:
            key.verify(signature, message, context)
        except (InvalidSignature, ValueError) as error:
            raise SignatureInvalidError("The ML-DSA-65 half of a signature does not verify.") from error


def _private(seed: bytes) -> MLDSA65PrivateKey:
    if len(seed) != SEED_BYTES:
        raise KeyMalformedError(f"An ML-DSA-65 seed is {SEED_BYTES} bytes long, not {len(seed)}.")
    return MLDSA65PrivateKey.from_seed_bytes(seed)
