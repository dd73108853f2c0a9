"""Every command and every event survives its encoding, whatever its fields hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorguard.ledger import format as fmt
from tensorguard.ledger.envelope import SignedCommand
from tensorguard.ledger.errors import MalformedRecordError
from tensorguard.ledger.record import Meta, compose_record, decode_record, encode_record
from tensorguard.ledger.schema import check_schema

from schemas import codec
from tests.schemas.strategies import values


def bodies(kind: str, name: str) -> st.SearchStrategy[Any]:
    written = codec.event_schema(name) if kind == "event" else codec.command_schema(name)
    schema = json.loads(written.text)
    names: dict[str, Any] = {}
    if kind == "event":
        values(fmt.META, names)
        schema = schema["fields"][2]["type"]
    return values(schema, names)


def metas(name: str) -> st.SearchStrategy[Meta]:
    plain = values(fmt.META, {})
    return plain.map(lambda value: Meta(**{**value, "schema": codec.event_schema(name).digest}))


def signed_commands() -> st.SearchStrategy[SignedCommand | None]:
    names: dict[str, Any] = {}
    values(fmt.META, names)
    return st.none() | values(fmt.SIGNED_COMMAND, names).map(SignedCommand.from_dict)


@pytest.mark.parametrize("name", codec.COMMANDS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_command_survives_its_encoding(name: str, data: st.DataObject) -> None:
    command = codec.from_dict(codec.COMMANDS[name], data.draw(bodies("command", name)))
    body = codec.encode_command(command)
    decoded = codec.decode_command(name, codec.command_schema(name).digest, body)
    assert type(decoded) is type(command)
    assert repr(decoded) == repr(command)
    assert codec.encode_command(decoded) == body


@pytest.mark.parametrize("name", codec.EVENTS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_an_event_survives_its_record(name: str, data: st.DataObject) -> None:
    event = codec.from_dict(codec.EVENTS[name], data.draw(bodies("event", name)))
    meta, signed = data.draw(metas(name)), data.draw(signed_commands())
    schema = codec.event_schema(name)
    record = encode_record(schema.text, meta, signed, codec.to_dict(event))
    assert compose_record(schema.text, meta, signed and signed.to_bytes(), codec.to_dict(event)) == record
    decoded = decode_record(record, {schema.digest: schema.text})
    assert (decoded.meta, decoded.command, decoded.event) == (meta, signed, name)
    assert repr(codec.decode_event(name, decoded.body)) == repr(event)


@pytest.mark.parametrize("name", codec.COMMANDS)
def test_a_commands_schema_may_stand_on_a_ledger(name: str) -> None:
    assert check_schema("command", name, codec.command_schema(name).text) == name


@pytest.mark.parametrize("name", codec.EVENTS)
def test_an_events_schema_may_stand_on_a_ledger(name: str) -> None:
    assert check_schema("event", name, codec.event_schema(name).text) == name


def test_what_this_build_does_not_know_is_refused() -> None:
    with pytest.raises(MalformedRecordError):
        codec.decode_event("RunTeleported", {})
    with pytest.raises(MalformedRecordError):
        codec.decode_command("CloseRun", bytes(32), b"\x0arun-1")
