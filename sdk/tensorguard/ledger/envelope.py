"""Signed command envelopes: what a producer signs, and how one signature covers many commands.

The signed message is ``DOMAIN || uint64 batch size || root``, where root is the RFC 6962 root over the
payloads' leaf hashes; each command carries its payload, its path in that tree, and the shared signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tensorguard.ledger import avro
from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import MalformedRecordError, SignatureInvalidError
from tensorguard.ledger.merkle import inclusion_paths, leaf_hash, root_from_path, root_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DOMAIN = b"tensorguard/command/v1\x00"
_ENVELOPE = avro.parse(fmt.compact(fmt.ENVELOPE))
_SIGNED = avro.parse(
    fmt.compact(
        {
            **fmt.SIGNED_COMMAND,
            "fields": [{**f, "type": fmt.HASH32} if f["name"] == "key_id" else f for f in fmt.SIGNED_COMMAND["fields"]],
        }
    )
)


def _beginning(schema: dict[str, Any]) -> Any:
    """A record's schema with its first field alone."""
    return avro.parse(fmt.compact({**schema, "fields": schema["fields"][:1]}))


_BEGINNING_OF_ENVELOPE, _BEGINNING_OF_SIGNED = _beginning(fmt.ENVELOPE), _beginning(fmt.SIGNED_COMMAND)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is signed: one command, bound to chain, tenant, stream, version, type, schema and expiry.

    Times are microseconds since the epoch; ``body`` is the Avro encoding of the command by the schema named.
    """

    chain: str
    tenant: str
    stream: str
    expected_version: int | None
    command_id: bytes
    command_type: str
    schema: bytes
    issued_at: int
    expires_at: int
    on_behalf_of: str | None
    correlation: bytes | None
    trace: bytes | None
    body: bytes

    def to_bytes(self) -> bytes:
        """The payload: exactly these bytes are signed and stored."""
        return avro.encode(_ENVELOPE, {name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def from_bytes(cls, payload: bytes) -> Envelope:
        """Decode a payload.

        Raises:
            MalformedRecordError: the bytes are no envelope.
        """
        return cls(**avro.decode(_ENVELOPE, payload))

    @classmethod
    def from_canonical(cls, payload: bytes) -> Envelope:
        """Decode a payload that is what :meth:`to_bytes` gives again.

        Raises:
            MalformedRecordError: the bytes are no envelope, or another encoding of one.
        """
        return cls(**avro.decode_canonical(_ENVELOPE, payload))


@dataclass(frozen=True, slots=True)
class SignedCommand:
    """A payload with the signature over the batch that it was signed in; ``key_id`` is SHA-256 of the public key."""

    payload: bytes
    key_id: bytes
    batch_index: int
    batch_size: int
    batch_path: tuple[bytes, ...]
    signature: bytes

    def envelope(self) -> Envelope:
        """The decoded payload."""
        return Envelope.from_bytes(self.payload)

    def to_dict(self) -> dict[str, Any]:
        """The value of a record's ``command`` field."""
        return {name: getattr(self, name) for name in self.__slots__} | {"batch_path": list(self.batch_path)}

    def to_bytes(self) -> bytes:
        """The Avro encoding, as it travels through the intake."""
        return avro.encode(_SIGNED, self.to_dict())

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> SignedCommand:
        """From a record's ``command`` field."""
        return cls(**{**value, "batch_path": tuple(value["batch_path"])})

    @classmethod
    def from_bytes(cls, data: bytes) -> SignedCommand:
        """Decode what travels through the intake.

        Raises:
            MalformedRecordError: the bytes are no signed command.
        """
        return cls.from_dict(avro.decode(_SIGNED, data))

    @classmethod
    def from_canonical(cls, data: bytes) -> SignedCommand:
        """Decode what travels through the intake, if it is what :meth:`to_bytes` gives again.

        Raises:
            MalformedRecordError: the bytes are no signed command, or another encoding of one.
        """
        return cls.from_dict(avro.decode_canonical(_SIGNED, data))

    def verify(self, public_key: bytes) -> None:
        """Check the signature with a raw Ed25519 public key.

        Raises:
            SignatureInvalidError: the key is another one, or the signature or the batch path is wrong.
        """
        if key_id_of(public_key) != self.key_id:
            raise SignatureInvalidError("The command names another key than the one it is checked with.")
        root = root_from_path(leaf_hash(self.payload), self.batch_index, self.batch_size, self.batch_path)
        if not _is_signed(public_key, self.signature, _message(self.batch_size, root)):
            raise SignatureInvalidError("A command's signature does not verify.")


def named_chain(data: bytes) -> str:
    """Only the chain that a signed command names: a sixth of the time of the whole.

    Raises:
        MalformedRecordError: the bytes do not begin as a signed command does.
    """
    payload = avro.decode(_BEGINNING_OF_SIGNED, data, prefix=True)["payload"]
    return str(avro.decode(_BEGINNING_OF_ENVELOPE, payload, prefix=True)["chain"])


@lru_cache(maxsize=1024)
def key_id_of(public_key: bytes) -> bytes:
    """SHA-256 of a raw public key: how the ledger names it."""
    return sha256(public_key).digest()


OWN_ID_BYTES = 8


def own_command_id(key_id: bytes, nonce: bytes) -> bytes:
    """The id of a command that comes in from outside: 8 bytes of its key's id, then 8 that were never used before.

    A chain decides an id once, whoever signed it, and the ids of outcomes can be foretold: a producer that could
    choose freely could take them, and what it took from others would never be decided.
    """
    return key_id[:OWN_ID_BYTES] + nonce[:OWN_ID_BYTES]


def sign_batch(payloads: Sequence[bytes], public_key: bytes, sign: Callable[[bytes], bytes]) -> list[SignedCommand]:
    """Sign payloads under one signature; ``sign`` maps the message to an Ed25519 signature.

    Raises:
        MalformedRecordError: there is nothing to sign.
    """
    if not payloads:
        raise MalformedRecordError("A batch of commands must hold at least one.")
    leaves = [leaf_hash(payload) for payload in payloads]
    signature = sign(_message(len(payloads), root_of(leaves)))
    key_id = key_id_of(public_key)
    return [
        SignedCommand(payload, key_id, index, len(payloads), tuple(path), signature)
        for index, (payload, path) in enumerate(zip(payloads, inclusion_paths(leaves), strict=True))
    ]


def _message(size: int, root: bytes) -> bytes:
    return DOMAIN + size.to_bytes(8, "big") + root


@lru_cache(maxsize=1024)
def _is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature is good. Remembered, since the commands of a batch share theirs."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
