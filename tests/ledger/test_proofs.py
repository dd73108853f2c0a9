"""Receipts: every record of a good ledger has one that checks offline; a table of what is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.ledger import proof as proofs
from tensorguard.ledger import record as records
from tensorguard.ledger.errors import (
    LedgerError,
    MalformedNoteError,
    MalformedRecordError,
    ProofInvalidError,
    UntrustedKeyError,
)
from tensorguard.ledger.merkle import inclusion_path, leaf_hash

from schemas import codec
from tests.ledger.build import Chain, good_ledger, schema_texts

LEDGER = good_ledger()
CHAIN = LEDGER.chains["acme"]
ROOT = LEDGER.root()


def receipt_of(chain: Chain, seq: int, size: int | None = None) -> bytes:
    size = len(chain.records) if size is None else size
    text = schema_texts()[records.decode_meta(chain.records[seq]).schema]
    return proofs.make_receipt(chain.records[seq], text, chain.leaves[:size], seq, chain.checkpoint(size))


GOOD = receipt_of(CHAIN, 9)


@pytest.mark.parametrize("name", ["acme", "platform"])
def test_every_record_has_a_receipt_that_says_what_it_proves(name: str) -> None:
    chain = LEDGER.chains[name]
    for seq, data in enumerate(chain.records):
        proven = proofs.verify_receipt(receipt_of(chain, seq), ROOT)
        assert (proven.chain, proven.seq, proven.data) == (name, seq, data)
        assert proven.decoded == records.decode_record(data, schema_texts())


@given(st.data())
def test_a_receipt_leads_to_any_checkpoint_that_covers_the_record(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(CHAIN.records)))
    seq = data.draw(st.integers(0, size - 1))
    assert proofs.verify_receipt(receipt_of(CHAIN, seq, size), ROOT).checkpoint.checkpoint.size == size


def test_a_receipt_without_the_record_needs_it() -> None:
    bare = without_extra(GOOD)
    assert proofs.verify_receipt(bare, ROOT, CHAIN.records[9]).decoded is None
    with pytest.raises(ProofInvalidError):
        proofs.verify_receipt(bare, ROOT)
    with pytest.raises(ProofInvalidError):
        proofs.verify_receipt(bare, ROOT, CHAIN.records[8])


def test_a_receipt_of_another_record_than_the_one_given_is_refused() -> None:
    with pytest.raises(ProofInvalidError):
        proofs.verify_receipt(GOOD, ROOT, CHAIN.records[8])


def test_a_receipt_is_not_made_of_another_record_or_tree() -> None:
    text = codec.event_schema("ProducerEnrolled").text
    for record, leaves in ((CHAIN.records[8], CHAIN.leaves), (CHAIN.records[9], CHAIN.leaves[:-1])):
        with pytest.raises(ProofInvalidError):
            proofs.make_receipt(record, text, leaves, 9, CHAIN.checkpoint())


def test_a_receipt_of_another_installation_is_refused() -> None:
    with pytest.raises(UntrustedKeyError):
        proofs.verify_receipt(GOOD, good_ledger("another").root())


def test_a_record_of_one_chain_is_not_proven_by_the_checkpoint_of_another() -> None:
    other = LEDGER.chains["platform"]
    mixed = proofs.Proof(9, tuple(inclusion_path(other.leaves, 9)), other.checkpoint())
    with pytest.raises(UntrustedKeyError):
        proofs.verify_receipt(mixed.to_bytes(), ROOT, CHAIN.records[9])


def test_a_record_that_was_signed_at_another_place_than_it_says_is_refused() -> None:
    ledger = good_ledger()
    chain = ledger.chains["acme"]
    record = records.decode_record(chain.records[-1], schema_texts())
    text = schema_texts()[record.meta.schema]
    misplaced = replace(record.meta, seq=record.meta.seq - 1)
    chain.records[-1] = records.encode_record(text, misplaced, record.command, record.body)
    chain.leaves[-1] = leaf_hash(chain.records[-1])
    with pytest.raises(ProofInvalidError):
        proofs.verify_receipt(receipt_of(chain, len(chain.records) - 1), ROOT)


def test_a_schema_text_with_other_names_for_the_same_bytes_is_refused() -> None:
    proof = proofs.Proof.from_bytes(GOOD)
    record, text = proofs.unpack_extra(proof.extra or b"")
    renamed = proofs.pack_extra(record, text.replace('{"name":"text"', '{"name":"lies"'))
    assert renamed != proof.extra
    with pytest.raises(ProofInvalidError):
        proofs.verify_receipt(replace(proof, extra=renamed).to_bytes(), ROOT)


def test_a_schema_text_that_the_record_does_not_name_is_refused() -> None:
    proof = proofs.Proof.from_bytes(GOOD)
    extra = proofs.pack_extra(CHAIN.records[9], codec.event_schema("RunClosed").text)
    forged = proofs.Proof(proof.index, proof.path, proof.checkpoint, extra)
    with pytest.raises((ProofInvalidError, MalformedRecordError)):
        proofs.verify_receipt(forged.to_bytes(), ROOT)


@given(st.data())
def test_a_flipped_bit_anywhere_is_refused(data: st.DataObject) -> None:
    receipt = bytearray(GOOD)
    bit = data.draw(st.integers(0, len(receipt) * 8 - 1))
    receipt[bit // 8] ^= 1 << bit % 8
    with pytest.raises(LedgerError):
        proofs.verify_receipt(bytes(receipt), ROOT)


@given(st.binary(max_size=200), st.binary(max_size=100))
def test_garbage_raises_our_errors_alone(data: bytes, record: bytes) -> None:
    for receipt, given_record in ((data, None), (proofs.MAGIC.encode() + b"\n" + data, record), (GOOD, record)):
        with pytest.raises(LedgerError):
            proofs.verify_receipt(receipt, ROOT, given_record)


def without_extra(receipt: bytes) -> bytes:
    return b"\n".join(line for line in receipt.split(b"\n") if not line.startswith(b"extra "))


HASH = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NOTE = "a.example/log\n1\n" + HASH + "\n\n— a.example/log dGVzdHNpZ25hdHVyZQ==\n"
NO_PROOFS = {
    "empty": "",
    "another magic": f"c2sp.org/tlog-proof@v2\nindex 0\n\n{NOTE}",
    "no index": f"c2sp.org/tlog-proof@v1\n\n{NOTE}",
    "a leading zero": f"c2sp.org/tlog-proof@v1\nindex 00\n\n{NOTE}",
    "a negative index": f"c2sp.org/tlog-proof@v1\nindex -1\n\n{NOTE}",
    "an index over 63 bits": f"c2sp.org/tlog-proof@v1\nindex 9223372036854775808\n\n{NOTE}",
    "two spaces": f"c2sp.org/tlog-proof@v1\nindex  0\n\n{NOTE}",
    "extra behind the index": f"c2sp.org/tlog-proof@v1\nindex 0\nextra AAAA\n\n{NOTE}",
    "extra twice": f"c2sp.org/tlog-proof@v1\nextra AAAA\nextra AAAA\nindex 0\n\n{NOTE}",
    "extra that is no base64": f"c2sp.org/tlog-proof@v1\nextra A*\nindex 0\n\n{NOTE}",
    "a short hash": f"c2sp.org/tlog-proof@v1\nindex 0\nAAEC\n\n{NOTE}",
    "a hash in hex": f"c2sp.org/tlog-proof@v1\nindex 0\n{bytes(32).hex()}\n\n{NOTE}",
    "too many hashes": "c2sp.org/tlog-proof@v1\nindex 0\n" + f"{HASH}\n" * 64 + f"\n{NOTE}",
    "no empty line": f"c2sp.org/tlog-proof@v1\nindex 0\n{HASH}\n{NOTE}",
    "no checkpoint": f"c2sp.org/tlog-proof@v1\nindex 0\n{HASH}\n\n",
    "carriage returns": f"c2sp.org/tlog-proof@v1\nindex 0\n\n{NOTE}".replace("\n", "\r\n"),
    "beyond ASCII": f"c2sp.org/tlog-proof@v1\nindex 0\n{HASH}é\n\n{NOTE}",
}


@pytest.mark.parametrize("text", NO_PROOFS.values(), ids=NO_PROOFS.keys())
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(MalformedNoteError):
        proofs.Proof.from_bytes(text.encode())


NO_EXTRAS = {
    "empty": b"",
    "a length alone": b"\x00\x01",
    "no record": b"\x00\x00{}",
    "a record that ends early": b"\x00\x05abc",
    "a schema text that is not UTF-8": b"\x00\x01a\xff",
}


@pytest.mark.parametrize("extra", NO_EXTRAS.values(), ids=NO_EXTRAS.keys())
def test_what_is_no_extra_of_ours_is_refused(extra: bytes) -> None:
    with pytest.raises(MalformedNoteError):
        proofs.unpack_extra(extra)


INDEXES = st.integers(0, 2**63 - 1)
PATHS = st.lists(st.binary(min_size=32, max_size=32), max_size=8).map(tuple)


@given(INDEXES, PATHS, st.none() | st.binary(max_size=60))
def test_a_proof_reads_back(index: int, path: tuple[bytes, ...], extra: bytes | None) -> None:
    proof = proofs.Proof(index, path, NOTE.encode(), extra)
    assert proofs.Proof.from_bytes(proof.to_bytes()) == proof
