"""Receipts: C2SP ``tlog-proof`` files that prove offline that a record is in a signed log.

The ``extra`` line of our receipts makes them complete: it is ``uint16 record length || record || schema text``.
C2SP's ``extra`` is not authenticated by itself, but both parts are here: the record is the leaf that is proven, and
the schema text has the digest that the record names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.ledger import checkpoint as checkpoints
from tensorguard.ledger import record as records
from tensorguard.ledger.errors import MalformedNoteError, ProofInvalidError, UntrustedKeyError
from tensorguard.ledger.format import MAX_RECORD_BYTES, schema_digest
from tensorguard.ledger.merkle import HASH_BYTES, inclusion_path, leaf_hash, root_from_path
from tensorguard.ledger.note import MAX_NOTE_BYTES, Note, decode_base64, encode_base64
from tensorguard.ledger.schema import check_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensorguard.ledger.checkpoint import SignedCheckpoint, SignerKeys
    from tensorguard.ledger.record import Record
    from tensorguard.ledger.trust import TrustRoot

MAGIC = "c2sp.org/tlog-proof@v1"
MAX_PATH = 63
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")
_MAX_INT64 = (1 << 63) - 1
_LENGTH_BYTES = 2


@dataclass(frozen=True, slots=True)
class Proof:
    """An inclusion proof with the checkpoint note that it leads to; nothing of it is checked yet."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def to_bytes(self) -> bytes:
        """The file.

        Raises:
            MalformedNoteError: a value that a proof cannot hold.
        """
        extra = () if self.extra is None else (f"extra {encode_base64(self.extra)}",)
        lines = (MAGIC, *extra, f"index {self.index}", *(encode_base64(step) for step in self.path), "")
        data = "".join(f"{line}\n" for line in lines).encode() + self.checkpoint
        if Proof.from_bytes(data) != self:
            raise MalformedNoteError("A proof does not read back as it was written.")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Proof:
        """Parse a file.

        Raises:
            MalformedNoteError: it is no proof.
        """
        if len(data) > MAX_NOTE_BYTES:
            raise MalformedNoteError(f"A proof of {len(data)} bytes is over the limit of {MAX_NOTE_BYTES}.")
        head, separator, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError as error:
            raise MalformedNoteError("The lines of a proof are not ASCII.") from error
        if not separator or lines.pop(0) != MAGIC:
            raise MalformedNoteError(f"A proof starts with {MAGIC} and has a checkpoint after an empty line.")
        has_extra = bool(lines) and lines[0].startswith("extra ")
        extra = decode_base64(lines.pop(0).removeprefix("extra ")) if has_extra else None
        index = _parse_index(lines.pop(0) if lines else "")
        path = tuple(decode_base64(line) for line in lines)
        if len(path) > MAX_PATH or any(len(step) != HASH_BYTES for step in path):
            raise MalformedNoteError(f"A proof has at most {MAX_PATH} hashes of {HASH_BYTES} bytes.")
        Note.from_bytes(checkpoint)
        return cls(index, path, checkpoint, extra)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A record that is proven to be in a signed log; ``decoded`` is None when the receipt carries no schema."""

    chain: str
    seq: int
    data: bytes
    checkpoint: SignedCheckpoint
    decoded: Record | None


def _parse_index(line: str) -> int:
    match = _INDEX.fullmatch(line)
    if match is None or int(match[1]) > _MAX_INT64:
        raise MalformedNoteError("A proof names no index, or one with leading zeroes.")
    return int(match[1])


def verify(proof: Proof, leaf: bytes, origin: str, trusted: Sequence[SignerKeys]) -> SignedCheckpoint:
    """Check that a leaf hash is in the log of this origin, under a checkpoint by a trusted signer.

    Raises:
        MalformedNoteError, UntrustedKeyError, SignatureInvalidError: the checkpoint does not count.
        ProofInvalidError: the path does not lead to the checkpoint's root.
    """
    signed = checkpoints.verify(proof.checkpoint, origin, trusted)
    head = signed.checkpoint
    if root_from_path(leaf, proof.index, head.size, proof.path) != head.root:
        raise ProofInvalidError("The inclusion proof does not lead to the signed root.")
    return signed


def make_receipt(record: bytes, schema_text: str, leaves: Sequence[bytes], index: int, checkpoint: bytes) -> bytes:
    """The receipt of a record.

    Args:
        record: the record's exact bytes.
        schema_text: the writer schema that it names.
        leaves: the leaf hashes of the whole tree that the checkpoint signs, and no more.
        index: the record's ``seq``.
        checkpoint: the signed note.

    Raises:
        ProofInvalidError: the record is not that leaf, or the leaves are not the checkpoint's tree.
        MalformedNoteError: the checkpoint is none, or the record is too long.
    """
    return make_receipt_by_path(record, schema_text, inclusion_path(leaves, index), index, checkpoint)


def make_receipt_by_path(
    record: bytes, schema_text: str, path: Sequence[bytes], index: int, checkpoint: bytes
) -> bytes:
    """The receipt of a record whose inclusion path in the checkpoint's tree is known already.

    Raises:
        ProofInvalidError: the path does not lead from the record to the checkpoint's root.
        MalformedNoteError: the checkpoint is none, or the record is too long.
    """
    head = checkpoints.Checkpoint.from_text(Note.from_bytes(checkpoint).text)
    if root_from_path(leaf_hash(record), index, head.size, path) != head.root:
        raise ProofInvalidError("The record is not in the tree that the checkpoint signs.")
    return Proof(index, tuple(path), checkpoint, pack_extra(record, schema_text)).to_bytes()


def pack_extra(record: bytes, schema_text: str) -> bytes:
    """The ``extra`` of a receipt.

    Raises:
        MalformedNoteError: the record is over the limit of the format.
    """
    if not 0 < len(record) <= MAX_RECORD_BYTES:
        raise MalformedNoteError(f"A record in a receipt has 1 to {MAX_RECORD_BYTES} bytes.")
    return len(record).to_bytes(_LENGTH_BYTES, "big") + record + schema_text.encode()


def unpack_extra(extra: bytes) -> tuple[bytes, str]:
    """The record and the schema text of a receipt's ``extra``.

    Raises:
        MalformedNoteError: it is not one of ours.
    """
    end = _LENGTH_BYTES + int.from_bytes(extra[:_LENGTH_BYTES], "big")
    if not _LENGTH_BYTES < end <= len(extra):
        raise MalformedNoteError("The extra line of a receipt holds no record.")
    try:
        return extra[_LENGTH_BYTES:end], extra[end:].decode()
    except UnicodeDecodeError as error:
        raise MalformedNoteError("The extra line of a receipt holds no schema text.") from error


def verify_receipt(data: bytes, root: TrustRoot, record: bytes | None = None) -> Receipt:
    """Check a receipt offline; ``record`` is needed only when the receipt does not carry it.

    Raises:
        MalformedNoteError, MalformedRecordError: the receipt, or the record in it, is malformed.
        UntrustedKeyError, SignatureInvalidError: its checkpoint does not count.
        ProofInvalidError: it proves another record, or none.
    """
    proof = Proof.from_bytes(data)
    carried, text = unpack_extra(proof.extra) if proof.extra is not None else (None, "")
    leaf_data = record if record is not None else carried
    if leaf_data is None:
        raise ProofInvalidError("The receipt carries no record.", next_step="Give the record's bytes with --record.")
    if carried is not None and carried != leaf_data:
        raise ProofInvalidError("The receipt is of another record than the one given.")
    meta = records.decode_meta(leaf_data)
    origin = Note.from_bytes(proof.checkpoint).text.partition("\n")[0]
    if origin != root.chain_origin(meta.chain):
        raise UntrustedKeyError("The record is of another chain or installation than the checkpoint of its receipt.")
    signed = verify(proof, leaf_hash(leaf_data), origin, root.signer_keys)
    if meta.seq != proof.index:
        raise ProofInvalidError("The record stands at another position than its own number says.")
    return Receipt(meta.chain, meta.seq, leaf_data, signed, _decode(leaf_data, meta.schema, text))


def _decode(data: bytes, digest: bytes, text: str) -> Record | None:
    if not text:
        return None
    if schema_digest(text) != digest:
        raise ProofInvalidError("The schema text in the receipt is not the one that its record names.")
    check_schema("event", None, text)
    return records.decode_record(data, {digest: text})
