"""C2SP signed notes and verifier keys, strictly: https://c2sp.org/signed-note.

A note is a text, a blank line, and signature lines. This module knows the format; what a signature type signs is
known by whoever uses it (``checkpoint.py``), except the plain Ed25519 type 0x01, which signs the text.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from tensorguard.ledger.errors import MalformedNoteError

if TYPE_CHECKING:
    from collections.abc import Iterable

ED25519 = 0x01
MLDSA44_COSIGNATURE = 0x06
MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 64
KEY_ID_BYTES = 4
_SIGNATURE_PREFIX = "— "
_FIRST_PRINTABLE = 0x20


def check_name(name: str) -> str:
    """The name of a key, if it may be one.

    Raises:
        MalformedNoteError: it is empty or has a space, a plus sign or a control character.
    """
    if not name or any(c.isspace() or c == "+" or ord(c) < _FIRST_PRINTABLE for c in name):
        raise MalformedNoteError("A key name is empty, or has a space, a plus sign or a control character.")
    return name


def decode_base64(text: str) -> bytes:
    """Standard base64, padded, in its one canonical spelling.

    Raises:
        MalformedNoteError: anything else.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedNoteError("A base64 value of a note cannot be decoded.") from error
    if encode_base64(data) != text:
        raise MalformedNoteError("A base64 value of a note is not in its canonical spelling.")
    return data


def encode_base64(data: bytes) -> str:
    """Standard base64, padded."""
    return base64.b64encode(data).decode("ascii")


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key as notes name it; ``kind`` is the signature type byte, ``public_key`` the raw key."""

    name: str
    kind: int
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || newline || kind || public key), cut to 4 bytes."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key).digest()[:KEY_ID_BYTES]

    def to_text(self) -> str:
        """The vkey: ``name+hex(key id)+base64(kind || public key)``."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.kind]) + self.public_key)}"

    @classmethod
    def from_text(cls, text: str) -> VerifierKey:
        """Parse a vkey.

        Raises:
            MalformedNoteError: it is none, or its key id is not that of its key.
        """
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        material = decode_base64(encoded)
        if not material:
            raise MalformedNoteError("A verifier key holds no key.")
        key = cls(check_name(name), material[0], material[1:])
        if key_id != key.key_id.hex():
            raise MalformedNoteError("A verifier key's id is not the id of its key.")
        return key


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line; ``key_id`` is 4 bytes, ``data`` whatever the signature type defines."""

    name: str
    key_id: bytes
    data: bytes

    def is_by(self, key: VerifierKey) -> bool:
        """Whether the line names this key (which proves nothing yet)."""
        return self.name == key.name and self.key_id == key.key_id

    def to_line(self) -> str:
        """The line without its newline."""
        return f"{_SIGNATURE_PREFIX}{self.name} {encode_base64(self.key_id + self.data)}"

    @classmethod
    def from_line(cls, line: str) -> Signature:
        """Parse a line without its newline.

        Raises:
            MalformedNoteError: it is no signature line.
        """
        if not line.startswith(_SIGNATURE_PREFIX):
            raise MalformedNoteError("A signature line of a note does not start with an em dash and a space.")
        name, separator, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
        data = decode_base64(encoded)
        if not separator or len(data) <= KEY_ID_BYTES:
            raise MalformedNoteError("A signature line of a note holds no signature.")
        return cls(check_name(name), data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Note:
    """A text (it ends in a newline) with its signatures, none of them checked yet."""

    text: str
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        """The note as a file.

        Raises:
            MalformedNoteError: the text or a name cannot stand in a note, or nothing is signed.
        """
        lines = "".join(f"{signature.to_line()}\n" for signature in self.signatures)
        data = f"{self.text}\n{lines}".encode()
        if Note.from_bytes(data) != self:
            raise MalformedNoteError("A text with an empty last line cannot be told from its signatures.")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Note:
        """Parse a note.

        Raises:
            MalformedNoteError: it is none.
        """
        whole = _decode_text(data)
        head, separator, tail = whole.rpartition("\n\n")
        if not separator or not head or not tail.endswith("\n"):
            raise MalformedNoteError("A note is a text, a blank line and signature lines, each ending in a newline.")
        lines = tail[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise MalformedNoteError(f"A note has {len(lines)} signatures; at most {MAX_SIGNATURES} are read.")
        return cls(head + "\n", tuple(Signature.from_line(line) for line in lines))

    def by(self, key: VerifierKey) -> Signature | None:
        """The one signature line that names a key.

        Raises:
            MalformedNoteError: there are several.
        """
        found = [signature for signature in self.signatures if signature.is_by(key)]
        if len(found) > 1:
            raise MalformedNoteError("A note has two signatures by one key.")
        return found[0] if found else None

    def extended(self, signatures: Iterable[Signature]) -> Note:
        """This note with more signatures, as a witness adds them."""
        return Note(self.text, (*self.signatures, *signatures))


def _decode_text(data: bytes) -> str:
    if len(data) > MAX_NOTE_BYTES:
        raise MalformedNoteError(f"A note of {len(data)} bytes is over the limit of {MAX_NOTE_BYTES}.")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise MalformedNoteError("A note is not UTF-8.") from error
    if any(ord(c) < _FIRST_PRINTABLE and c != "\n" for c in text):
        raise MalformedNoteError("A note has a control character other than newline.")
    return text
