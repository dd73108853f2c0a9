"""Producers: the keys that sign commands, and the envelopes that they sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tensorguard.ledger.envelope import Envelope, SignedCommand, key_id_of, sign_batch

from producers.secretfiles import read_secret
from schemas.codec import command_schema, encode_command

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from schemas.base import Command

ROLES = ("authority", "gateway", "dispatcher", "worker", "packager", "retention")
"""The producers of an installation itself; devices bring their own keys."""

SEED_BYTES = 32
HOUR = 3_600 * 1_000_000


class Producer:
    """A role with its Ed25519 key; ``key_id`` is the SHA-256 of the raw public key."""

    def __init__(self, role: str, seed: bytes) -> None:
        self.role = role
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.key_id = key_id_of(self.public_key)

    @classmethod
    def load(cls, path: Path, role: str) -> Producer:
        """The producer of a key file (a raw 32-byte seed, mode 0600).

        Raises:
            KeyFileError: the file is missing, has another size or is open to others.
        """
        return cls(role, read_secret(path, SEED_BYTES))

    def sign(self, payloads: Sequence[bytes]) -> list[SignedCommand]:
        """Sign payloads under one signature.

        Raises:
            MalformedRecordError: there is nothing to sign.
        """
        return sign_batch(payloads, self.public_key, self._key.sign)

    def sign_message(self, message: bytes) -> bytes:
        """The Ed25519 signature of a message that is no command and carries its own domain."""
        return self._key.sign(message)


def make_envelope(
    command: Command,
    *,
    chain: str,
    stream: str,
    command_id: bytes,
    now: int,
    ttl: int = HOUR,
    expected_version: int | None = None,
    on_behalf_of: str | None = None,
    correlation: bytes | None = None,
    trace: bytes | None = None,
) -> Envelope:
    """What a producer signs to ask for a command; ``now`` and ``ttl`` are microseconds.

    Raises:
        MalformedRecordError: a field of the command does not fit its schema.
    """
    name = type(command).__name__
    return Envelope(
        chain=chain,
        tenant=chain,
        stream=stream,
        expected_version=expected_version,
        command_id=command_id,
        command_type=name,
        schema=command_schema(name).digest,
        issued_at=now,
        expires_at=now + ttl,
        on_behalf_of=on_behalf_of,
        correlation=correlation,
        trace=trace,
        body=encode_command(command),
    )
