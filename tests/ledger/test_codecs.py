"""Records, envelopes and Avro: what is written reads back, and nothing else is read."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.ledger import avro, envelope, record
from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import LedgerError, MalformedRecordError, ProofInvalidError, SignatureInvalidError

from schemas import codec
from tests.ledger.build import ed25519, good_ledger, raw

if TYPE_CHECKING:
    from collections.abc import Callable

ID = st.binary(min_size=16, max_size=16)
HASH = st.binary(min_size=32, max_size=32)
LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


def nullable(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


METAS = st.builds(
    record.Meta,
    prev_hash=HASH,
    chain=TEXT,
    seq=LONG,
    epoch=LONG,
    schema=st.just(codec.event_schema("EpochOpened").digest),
    event_id=ID,
    stream=TEXT,
    stream_seq=LONG,
    recorded_at=LONG,
    cause=nullable(ID),
    correlation=nullable(ID),
    trace=nullable(ID),
)
COMMANDS = st.builds(
    envelope.SignedCommand,
    payload=st.binary(max_size=200),
    key_id=HASH,
    batch_index=LONG,
    batch_size=LONG,
    batch_path=st.lists(HASH, max_size=4).map(tuple),
    signature=st.binary(max_size=80),
)
ENVELOPES = st.builds(
    envelope.Envelope,
    chain=TEXT,
    tenant=TEXT,
    stream=TEXT,
    expected_version=nullable(LONG),
    command_id=ID,
    command_type=TEXT,
    schema=HASH,
    issued_at=LONG,
    expires_at=LONG,
    on_behalf_of=nullable(TEXT),
    correlation=nullable(ID),
    trace=nullable(ID),
    body=st.binary(max_size=200),
)
BODIES = st.fixed_dictionaries({"epoch": LONG, "writer": TEXT})


@given(METAS, nullable(COMMANDS), BODIES)
def test_a_record_reads_back(meta: record.Meta, command: envelope.SignedCommand | None, body: dict[str, Any]) -> None:
    data = record.encode_record(codec.event_schema("EpochOpened").text, meta, command, body)
    assert record.decode_record(data, {}) == record.Record(meta, command, "EpochOpened", body)
    assert record.decode_meta(data) == meta
    assert record.decode_cause(data) == meta.cause
    assert data[:32] == meta.prev_hash


class Counted(bytes):
    """Bytes that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        self.looks += 1
        return super().__getitem__(at)


@pytest.mark.parametrize("read", [record.named_schema, record.decode_cause])
def test_a_length_beyond_the_bytes_is_read_no_further(read: Callable[[bytes], object]) -> None:
    data = Counted(bytes(32) + b"\xff" * 65_503)
    with suppress(MalformedRecordError):
        assert read(data) == b""
    assert data.looks < 10


@given(METAS, BODIES, st.binary(min_size=1, max_size=8))
def test_bytes_left_over_are_no_record(meta: record.Meta, body: dict[str, Any], rest: bytes) -> None:
    data = record.encode_record(codec.event_schema("EpochOpened").text, meta, None, body)
    with pytest.raises(MalformedRecordError):
        record.decode_record(data + rest, {})


@given(ENVELOPES)
def test_an_envelope_reads_back(value: envelope.Envelope) -> None:
    assert envelope.Envelope.from_canonical(value.to_bytes()) == value
    assert envelope.Envelope.from_bytes(value.to_bytes()) == value


@given(COMMANDS)
def test_a_signed_command_reads_back(value: envelope.SignedCommand) -> None:
    assert envelope.SignedCommand.from_canonical(value.to_bytes()) == value
    assert envelope.SignedCommand.from_bytes(value.to_bytes()) == value


@given(ENVELOPES, COMMANDS)
def test_a_commands_chain_is_read_without_the_rest(asked: envelope.Envelope, signed: envelope.SignedCommand) -> None:
    data = replace(signed, payload=asked.to_bytes()).to_bytes()
    assert envelope.named_chain(data) == envelope.SignedCommand.from_bytes(data).envelope().chain


@given(st.binary(max_size=300))
def test_garbage_is_refused_with_our_error_alone(data: bytes) -> None:
    readers = (
        envelope.Envelope.from_bytes,
        envelope.SignedCommand.from_bytes,
        envelope.named_chain,
        record.decode_meta,
        record.decode_cause,
        lambda each: record.decode_record(each, {}),
    )
    for reader in readers:
        try:
            reader(data)
        except LedgerError:
            continue


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=12), st.data())
def test_one_signature_covers_each_payload_of_a_batch_and_no_other(payloads: list[bytes], data: st.DataObject) -> None:
    key = ed25519("batch")
    signed = envelope.sign_batch(payloads, raw(key), key.sign)
    for command in signed:
        command.verify(raw(key))
    one = data.draw(st.sampled_from(signed))
    forged = envelope.SignedCommand(one.payload + b"!", *(getattr(one, name) for name in one.__slots__[1:]))
    with pytest.raises(SignatureInvalidError):
        forged.verify(raw(key))
    with pytest.raises(SignatureInvalidError):
        one.verify(raw(ed25519("another")))


def test_the_signature_of_a_batch_is_checked_once_and_vouches_for_nothing_else() -> None:
    key, other = ed25519("batch"), ed25519("another")
    signed = envelope.sign_batch([b"%d" % i for i in range(100)], raw(key), key.sign)
    envelope._is_signed.cache_clear()
    for command in signed:
        command.verify(raw(key))
    assert envelope._is_signed.cache_info().misses == 1
    for forged in (
        replace(signed[0], payload=b"?"),
        replace(signed[0], signature=bytes(64)),
        replace(signed[1], batch_index=0),
        replace(signed[0], key_id=envelope.key_id_of(raw(other))),
    ):
        for public_key in (raw(key), raw(other)):
            with pytest.raises(SignatureInvalidError):
                forged.verify(public_key)


def test_a_batch_path_of_a_wrong_length_is_refused() -> None:
    key = ed25519("batch")
    one = envelope.sign_batch([b"a", b"b", b"c"], raw(key), key.sign)[0]
    short = envelope.SignedCommand(one.payload, one.key_id, 0, 3, one.batch_path[:1], one.signature)
    with pytest.raises(ProofInvalidError):
        short.verify(raw(key))


def test_a_record_over_65535_bytes_is_not_written() -> None:
    meta = record.decode_meta(good_ledger().chains["acme"].records[1])
    with pytest.raises(MalformedRecordError):
        record.encode_record(
            codec.event_schema("EpochOpened").text, meta, None, {"epoch": 1, "writer": "x" * fmt.MAX_RECORD_BYTES}
        )


# One field of a record, by a schema -> bytes that a lenient Avro decoder would take for a value.
NOT_THE_ONE_ENCODING = {
    "a number of two bytes where one is enough": ('"long"', b"\x80\x00"),
    "a number over 64 bits": ('"long"', b"\x80" * 9 + b"\x02"),
    "a boolean of 2": ('"boolean"', b"\x02"),
    "a negative union branch": ('["null","long"]', b"\x03"),
    "a negative enum symbol": ('{"type":"enum","name":"a.E","symbols":["p","q"]}', b"\x01"),
    "an array in two blocks": ('{"type":"array","items":"long"}', b"\x02\x02\x02\x02\x00"),
    "an array block with its size": ('{"type":"array","items":"long"}', b"\x01\x02\x02\x00"),
}


@pytest.mark.parametrize(("type_text", "data"), NOT_THE_ONE_ENCODING.values(), ids=NOT_THE_ONE_ENCODING.keys())
def test_another_encoding_of_a_value_is_told_from_the_one_that_is_written(type_text: str, data: bytes) -> None:
    schema = avro.parse(f'{{"type":"record","name":"a.R","fields":[{{"name":"x","type":{type_text}}}]}}')
    value = avro.decode(schema, data)
    assert avro.encode(schema, value) != data
    assert avro.decode_canonical(schema, avro.encode(schema, value)) == value
    with pytest.raises(MalformedRecordError):
        avro.decode_canonical(schema, data)


def test_a_schema_text_is_named_by_its_exact_characters() -> None:
    schema = codec.event_schema("StepApplied")
    spaced = json.dumps(json.loads(schema.text))
    assert fmt.schema_digest(spaced) != schema.digest
