"""Checkpoints: a log's size and root, signed by Ed25519 and ML-DSA-44 together (C2SP).

The text follows https://c2sp.org/tlog-checkpoint and has exactly three lines. The log signs it twice under its
origin's name: a note signature of type 0x01 over the text, and a cosignature of type 0x06
(https://c2sp.org/tlog-cosignature) over a ``cosigned_message``. A checkpoint counts only when both verify.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from tensorguard.ledger.errors import MalformedNoteError, SignatureInvalidError, UntrustedKeyError
from tensorguard.ledger.merkle import HASH_BYTES
from tensorguard.ledger.note import (
    ED25519,
    MLDSA44_COSIGNATURE,
    Note,
    Signature,
    VerifierKey,
    decode_base64,
    encode_base64,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

ED25519_KEY_BYTES = 32
MLDSA44_KEY_BYTES = 1312
MLDSA44_SIGNATURE_BYTES = 2420
MAX_NAME_BYTES = 255
_LABEL = b"subtree/v1\n\x00"
_TIMESTAMP_BYTES = 8
_MAX_INT64 = (1 << 63) - 1
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class SignerKeys:
    """A signer's public keys: raw Ed25519 (32 bytes) and ML-DSA-44 (1,312 bytes).

    ``since`` says when they were published, ``until`` when they were retired (POSIX seconds): a checkpoint that
    they cosigned later than ``until`` does not count.
    """

    ed25519: bytes
    mldsa44: bytes
    since: int = 0
    until: int | None = None

    def verifier_keys(self, origin: str) -> tuple[VerifierKey, VerifierKey]:
        """The two keys as notes name them: the log signs under its origin."""
        return VerifierKey(origin, ED25519, self.ed25519), VerifierKey(origin, MLDSA44_COSIGNATURE, self.mldsa44)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: origin, number of records, RFC 6962 root over them."""

    origin: str
    size: int
    root: bytes

    def to_text(self) -> str:
        """The note's text.

        Raises:
            MalformedNoteError: a value that a checkpoint cannot hold.
        """
        text = f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"
        if Checkpoint.from_text(text) != self:
            raise MalformedNoteError("A checkpoint's origin cannot hold a newline.")
        return text

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Parse a note's text; extension lines are refused, since only one of the two signatures would cover them.

        Raises:
            MalformedNoteError: it is no checkpoint.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:  # noqa: PLR2004 -- three lines, each ending in a newline
            raise MalformedNoteError("A checkpoint's text has exactly three lines.")
        origin, size, root = lines[0], lines[1], decode_base64(lines[2])
        if not 0 < len(origin.encode()) <= MAX_NAME_BYTES:
            raise MalformedNoteError(f"A checkpoint's origin has 1 to {MAX_NAME_BYTES} bytes.")
        if not _SIZE.fullmatch(size) or int(size) > _MAX_INT64:
            raise MalformedNoteError("A checkpoint's size is no decimal number without leading zeroes.")
        if len(root) != HASH_BYTES:
            raise MalformedNoteError("A checkpoint's root is not 32 bytes long.")
        return cls(origin, int(size), root)


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose two signatures verified; ``timestamp`` is when it was cosigned (POSIX seconds)."""

    checkpoint: Checkpoint
    timestamp: int
    keys: SignerKeys


def chain_origin(origin: str, chain: str) -> str:
    """The origin line of one chain of an installation."""
    return f"{origin}/{chain}"


def cosigned_message(name: str, timestamp: int, checkpoint: Checkpoint) -> bytes:
    """What an ML-DSA-44 cosigner of this name signs for a whole tree (``start`` is 0).

    Raises:
        MalformedNoteError: the name is empty or over 255 bytes, or the timestamp is negative or too large.
    """
    if not 0 <= timestamp <= _MAX_INT64 or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise MalformedNoteError("A cosigner's name or timestamp cannot be encoded.")
    return b"".join(
        (
            _LABEL,
            _opaque(name),
            timestamp.to_bytes(8, "big"),
            _opaque(checkpoint.origin),
            (0).to_bytes(8, "big"),
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def _opaque(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def sign(checkpoint: Checkpoint, ed25519: Ed25519PrivateKey, mldsa44: MLDSA44PrivateKey, timestamp: int) -> bytes:
    """The signed note of a checkpoint. ML-DSA is randomised: keep the note, do not make it twice.

    Raises:
        MalformedNoteError: a value that a checkpoint cannot hold.
    """
    text = checkpoint.to_text()
    keys = SignerKeys(ed25519.public_key().public_bytes_raw(), mldsa44.public_key().public_bytes_raw())
    log, cosigner = keys.verifier_keys(checkpoint.origin)
    message = cosigned_message(cosigner.name, timestamp, checkpoint)
    stamped = timestamp.to_bytes(_TIMESTAMP_BYTES, "big") + mldsa44.sign(message)
    signatures = (
        Signature(log.name, log.key_id, ed25519.sign(text.encode())),
        Signature(cosigner.name, cosigner.key_id, stamped),
    )
    return Note(text, signatures).to_bytes()


def verify(note: bytes, origin: str, trusted: Sequence[SignerKeys]) -> SignedCheckpoint:
    """Check a checkpoint note of a log against the signers that are trusted.

    Every line by a trusted key must verify, and at least one pair of keys must have signed twice. Lines by
    others, such as witnesses that are not known, are ignored.

    Raises:
        MalformedNoteError: it is no checkpoint note.
        UntrustedKeyError: another origin, or no trusted signer.
        SignatureInvalidError: a signature does not verify, or one of the two is missing.
    """
    parsed = Note.from_bytes(note)
    checkpoint = Checkpoint.from_text(parsed.text)
    if checkpoint.origin != origin:
        raise UntrustedKeyError("A checkpoint is of another log than the one it is read for.")
    verified = [found for keys in trusted if (found := _verify_pair(parsed, checkpoint, keys)) is not None]
    if not verified:
        raise UntrustedKeyError("A checkpoint is signed by no signer of the trust root.")
    return verified[-1]


def _verify_pair(note: Note, checkpoint: Checkpoint, keys: SignerKeys) -> SignedCheckpoint | None:
    log, cosigner = keys.verifier_keys(checkpoint.origin)
    signature, cosignature = note.by(log), note.by(cosigner)
    if signature is None and cosignature is None:
        return None
    if signature is None or cosignature is None:
        raise SignatureInvalidError("A checkpoint has only one of its signer's two signatures.")
    _verify_log(note.text, signature, keys)
    timestamp = _verify_cosignature(cosigner.name, checkpoint, cosignature, keys)
    if keys.until is not None and timestamp > keys.until:
        raise UntrustedKeyError("A checkpoint was signed after its signer's keys were retired.")
    return SignedCheckpoint(checkpoint, timestamp, keys)


def _verify_log(text: str, signature: Signature, keys: SignerKeys) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(keys.ed25519).verify(signature.data, text.encode())
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalidError("A checkpoint's Ed25519 signature does not verify.") from error


def _verify_cosignature(name: str, checkpoint: Checkpoint, signature: Signature, keys: SignerKeys) -> int:
    if len(signature.data) != _TIMESTAMP_BYTES + MLDSA44_SIGNATURE_BYTES:
        raise SignatureInvalidError("A checkpoint's ML-DSA-44 cosignature has a wrong length.")
    timestamp = int.from_bytes(signature.data[:_TIMESTAMP_BYTES], "big")
    message = cosigned_message(name, timestamp, checkpoint)
    try:
        MLDSA44PublicKey.from_public_bytes(keys.mldsa44).verify(signature.data[_TIMESTAMP_BYTES:], message)
    except (InvalidSignature, ValueError) as error:
        raise SignatureInvalidError("A checkpoint's ML-DSA-44 cosignature does not verify.") from error
    return timestamp
