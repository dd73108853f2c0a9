"""What stands before a record in a Kafka message, and how it comes off."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import MalformedRecordError
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.record import Meta, decode_meta, encode_record

from producers.engines.kafka.framing import (
    Framer,
    MalformedFrameError,
    UnknownWriterSchemaError,
    schema_fingerprint,
)
from schemas.codec import EVENTS, event_schema
from tests.support.ledgers import Ledger

NEWER = fmt.record_schema_text(
    {"type": "record", "name": "tensorguard.event.EpochClosed", "fields": [{"name": "reason", "type": "string"}]}
)
"""A record schema of some other build."""
RECORD = b"\x01" * 90


class Numbered:
    """A registry that numbers schemas in the order in which it meets them."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def ids_of(self, texts: Sequence[str]) -> list[int]:
        self.texts += [text for text in texts if text not in self.texts]
        return [self.texts.index(text) + 1 for text in texts]


ids16 = st.binary(min_size=16, max_size=16)
hashes = st.binary(min_size=32, max_size=32)
longs = st.integers(0, 2**63 - 1)
metas = st.builds(
    Meta,
    prev_hash=hashes,
    chain=st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True),
    seq=longs,
    epoch=longs,
    schema=st.just(event_schema("EpochOpened").digest),
    event_id=ids16,
    stream=st.text(max_size=40),
    stream_seq=longs,
    recorded_at=longs,
    cause=st.none() | ids16,
    correlation=st.none() | ids16,
    trace=st.none() | ids16,
)


def _record(meta: Meta, text: str = event_schema("EpochOpened").text, body: dict[str, Any] | None = None) -> bytes:
    return encode_record(text, meta, None, body or {"epoch": meta.epoch, "writer": "w"})


def _meta(seq: int, text: str, chain: str = "acme") -> Meta:
    digest = fmt.schema_digest(text)
    return Meta(bytes(32), chain, seq, 1, digest, bytes(16), "chain", seq, 1_000_000, None, None, None)


def _registration(seq: int, text: str) -> bytes:
    body = {"kind": "event", "name": "EpochClosed", "schema": fmt.schema_digest(text), "text": text}
    registered = event_schema("SchemaRegistered").text
    return _record(_meta(seq, registered), registered, body)


@given(metas)
def test_a_record_comes_out_of_both_frames_as_it_went_in(meta: Meta) -> None:
    record = _record(meta)
    for framer in (Framer(), Framer(Numbered())):
        assert framer.record(framer.frame(record)) == record


@given(metas)
def test_the_frame_names_the_schema_that_the_record_names(meta: Meta) -> None:
    registry = Numbered()
    record, text = _record(meta), event_schema("EpochOpened").text
    assert Framer().frame(record)[:10] == b"\xc3\x01" + schema_fingerprint(text)
    framed = Framer(registry).frame(record)
    assert framed[:1] == b"\x00"
    assert registry.texts[int.from_bytes(framed[1:5], "big") - 1] == text


@given(st.binary(max_size=200))
def test_what_does_not_begin_as_a_record_is_not_framed(data: bytes) -> None:
    with pytest.raises((MalformedRecordError, UnknownWriterSchemaError)):
        Framer().frame(data)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_framed_record_or_refused(data: bytes) -> None:
    try:
        record = Framer.record(data)
    except MalformedFrameError:
        return
    assert data.endswith(record)
    assert len(data) - len(record) == {0xC3: 10, 0x00: 5}[data[0]]


MALFORMED: dict[str, bytes | None] = {
    "no value": None,
    "nothing": b"",
    "a record without a frame": RECORD,
    "the first record of a chain without a frame": bytes(32) + RECORD,
    "half of the single-object marker": b"\xc3",
    "another version of single objects": b"\xc3\x02" + bytes(8) + RECORD,
    "an end within the fingerprint": b"\xc3\x01" + bytes(7),
    "a fingerprint and no record": b"\xc3\x01" + bytes(8),
    "an end within the id": b"\x00\x00\x00\x01",
    "an id and no record": b"\x00\x00\x00\x00\x01",
    "id 0": b"\x00\x00\x00\x00\x00" + RECORD,
    "an id of 32 bits": b"\x00\x80\x00\x00\x00" + RECORD,
    "Confluent's frame with a GUID": b"\x01" + bytes(16) + RECORD,
    "a container file": b"Obj\x01" + RECORD,
    "a larger record than there are": b"\x00\x00\x00\x00\x01" + bytes(65_536),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_frame_is_refused(name: str) -> None:
    with pytest.raises(MalformedFrameError) as refused:
        Framer.record(MALFORMED[name])
    assert refused.value.next_step


def test_the_largest_record_fits_into_a_frame() -> None:
    assert len(Framer.record(b"\x00\x00\x00\x00\x01" + bytes(65_535))) == 65_535


FINGERPRINTS = {
    "ChainOpened": "8e5bc897f494f6dd",
    "SchemaRegistered": "3efc46ab9a7d6987",
    "EpochOpened": "718b34f380631ef4",
}
"""As Apache Avro 1.12 for Java computes them: ``SchemaNormalization.parsingFingerprint("CRC-64-AVRO", schema)``."""


@pytest.mark.parametrize("event", FINGERPRINTS)
def test_fingerprints_are_those_of_apache_avro(event: str) -> None:
    assert schema_fingerprint(event_schema(event).text).hex() == FINGERPRINTS[event]


def test_a_fingerprint_is_that_of_the_canonical_form() -> None:
    # The specification's own algorithm, bit by bit, over its empty polynomial.
    text = '{"type":"fixed","name":"a.b","size":3,"doc":"gone"}'
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in b'{"name":"a.b","type":"fixed","size":3}':
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
    assert schema_fingerprint(text) == value.to_bytes(8, "little")


def test_no_two_of_our_records_share_a_fingerprint() -> None:
    assert len({schema_fingerprint(event_schema(name).text) for name in EVENTS}) == len(EVENTS)


def test_a_whole_ledger_reads_by_its_frames_alone_and_hashes_the_same(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "data")
    records = ledger.engine.read("acme", 0, 1_000)
    ledger.close()
    schemas = {schema_fingerprint(event_schema(name).text): event_schema(name).text for name in EVENTS}
    registry = Numbered()
    single, confluent = Framer(), Framer(registry)
    for record in records:
        plain, numbered = single.frame(record), confluent.frame(record)
        assert plain != numbered
        assert leaf_hash(single.record(plain)) == leaf_hash(confluent.record(numbered)) == leaf_hash(record)
        for framed, text in (
            (plain[10:], schemas[plain[2:10]]),
            (numbered[5:], registry.texts[int.from_bytes(numbered[1:5], "big") - 1]),
        ):
            value: Any = schemaless_reader(io.BytesIO(framed), parse_schema(json.loads(text)), None)
            assert sha256(text.encode()).digest() == value["meta"]["schema"] == decode_meta(record).schema
    assert len(records) > 3


def test_a_prepared_framer_asks_its_registry_for_nothing_more() -> None:
    registry = Numbered()
    framer = Framer(registry)
    framer.prepare()
    assert registry.texts == [event_schema(name).text for name in EVENTS]
    framer._ids = None
    assert framer.frame(_record(_meta(0, event_schema("EpochOpened").text)))[:1] == b"\x00"


def test_another_builds_record_is_framed_by_the_schema_that_its_chain_registered() -> None:
    framer = Framer()
    record = _record(_meta(5, NEWER), NEWER, {"reason": "done"})
    framer.frame(_registration(4, NEWER))
    assert framer.frame(record)[2:10] == schema_fingerprint(NEWER)


def test_the_chain_is_read_back_for_a_schema_that_was_registered_before_this_framer() -> None:
    chains = {"acme": [_record(_meta(0, event_schema("EpochOpened").text)), _registration(1, NEWER)]}
    record = _record(_meta(2, NEWER), NEWER, {"reason": "done"})
    framer = Framer(written=chains.__getitem__)
    assert framer.frame(record) == b"\xc3\x01" + schema_fingerprint(NEWER) + record


def test_a_schema_that_nobody_registered_is_refused() -> None:
    record = _record(_meta(2, NEWER), NEWER, {"reason": "done"})
    with pytest.raises(UnknownWriterSchemaError, match="record 2 of 'acme'"):
        Framer().frame(record)


def test_a_registration_that_lies_about_its_digest_teaches_nothing() -> None:
    body = {"kind": "event", "name": "X", "schema": fmt.schema_digest(NEWER), "text": event_schema("EpochOpened").text}
    registered = event_schema("SchemaRegistered").text
    framer = Framer()
    framer.frame(_record(_meta(1, registered), registered, body))
    with pytest.raises(UnknownWriterSchemaError):
        framer.frame(_record(_meta(2, NEWER), NEWER, {"reason": "done"}))
