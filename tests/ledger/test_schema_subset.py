"""Which schemas may stand on a ledger: all of ours, and none that a decoder could hang on or read in two ways."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import MalformedRecordError
from tensorguard.ledger.schema import check_schema

from schemas import codec
from tests.ledger import tiny_verifier

Bad = tiny_verifier.Bad
tiny_check_schema: Any = tiny_verifier.check_schema


def command(*fields: Any, name: str = "tensorguard.command.X") -> str:
    typed = [{"name": f"f{i}", "type": each} for i, each in enumerate(fields)]
    return fmt.compact({"type": "record", "name": name, "fields": typed})


def nested(depth: int) -> Any:
    return {"type": "array", "items": nested(depth - 1)} if depth else "long"


def nested_by_name(depth: int) -> list[Any]:
    """Records that each hold the one defined before them: no text nests deeply, a value of the last one does."""
    types = ["long", *(f"a.T{i}" for i in range(depth))]
    return [
        {"type": "record", "name": name, "fields": [{"name": "f", "type": inner}]} for inner, name in pairwise(types)
    ]


FIXED = {"type": "fixed", "name": "a.F", "size": 4}
FORBIDDEN = {
    "no JSON": "{",
    "deep JSON": "[" * 100_000,
    "a list": "[]",
    "a bare type": '"long"',
    "spaces": json.dumps(json.loads(command("long"))),
    "a duplicate key": '{"type":"record","type":"record","name":"tensorguard.command.X","fields":[]}',
    "another name": command("long", name="tensorguard.command.Y"),
    "another namespace": command("long", name="tensorguard.event.X"),
    "no fields": command(),
    "a fixed type alone": '{"type":"fixed","name":"tensorguard.command.X","size":1}',
    "null alone": command("null"),
    "an array of nothing": command({"type": "array", "items": "null"}),
    "an array of empty fixed": command({"type": "array", "items": {"type": "fixed", "name": "a.F", "size": 0}}),
    "a recursive record": command({"type": "array", "items": "tensorguard.command.X"}),
    "a type that comes later": command("a.F", FIXED),
    "a type twice": command(FIXED, FIXED),
    "an unknown type": command("a.Unknown"),
    "a name without a namespace": command({"type": "fixed", "name": "F", "size": 4}),
    "a union of three": command(["null", "long", "string"]),
    "a union with null last": command(["long", "null"]),
    "a union of one": command(["null"]),
    "a union in a union": command(["null", ["null", "long"]]),
    "a map": command({"type": "map", "values": "long"}),
    "float": command("float"),
    "a logical type": command({"type": "long", "logicalType": "timestamp-micros"}),
    "an alias": command({**FIXED, "aliases": ["a.G"]}),
    "a size that is no number": command({**FIXED, "size": "4"}),
    "a size of true": command({**FIXED, "size": True}),
    "a size over a record": command({**FIXED, "size": 65_536}),
    "an enum of nothing": command({"type": "enum", "name": "a.E", "symbols": []}),
    "a symbol twice": command({"type": "enum", "name": "a.E", "symbols": ["p", "p"]}),
    "a symbol that is no name": command({"type": "enum", "name": "a.E", "symbols": ["p q"]}),
    "a field twice": '{"type":"record","name":"tensorguard.command.X","fields":[{"name":"a","type":"long"},'
    '{"name":"a","type":"long"}]}',
    "a field of another key": '{"type":"record","name":"tensorguard.command.X","fields":[{"name":"a","type":"long",'
    '"order":"ignore"}]}',
    "a field without a type": '{"type":"record","name":"tensorguard.command.X","fields":[{"name":"a"}]}',
    "a field that is a number": '{"type":"record","name":"tensorguard.command.X","fields":[1]}',
    "fields that are an object": '{"type":"record","name":"tensorguard.command.X","fields":{}}',
    "too deep": command(nested(16)),
    "too deep by names": command(*nested_by_name(16)),
    "too deep at the place of a name": command(*nested_by_name(14), {"type": "array", "items": ["null", "a.T13"]}),
}


@pytest.mark.parametrize("text", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_schema_outside_the_subset_is_refused_by_both_verifiers(text: str) -> None:
    with pytest.raises(MalformedRecordError):
        check_schema("command", "X", text)
    with pytest.raises(Bad):
        tiny_check_schema("command", "X", text)


ALLOWED = {
    "everything": command("bytes", "string", "boolean", "int", "long", "double", ["null", FIXED], "a.F"),
    "an enum": command({"type": "enum", "name": "a.E", "symbols": ["p", "q"]}),
    "fifteen deep": command(nested(15)),
    "fifteen deep by names": command(*nested_by_name(15)),
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED.keys())
def test_a_schema_inside_the_subset_is_taken_by_both_verifiers(text: str) -> None:
    assert check_schema("command", "X", text) == "X"
    tiny_check_schema("command", "X", text)


@pytest.mark.parametrize("name", codec.EVENTS)
def test_every_event_of_ours_is_inside(name: str) -> None:
    assert check_schema("event", name, codec.event_schema(name).text) == name
    tiny_check_schema("event", name, codec.event_schema(name).text)


@pytest.mark.parametrize("name", codec.COMMANDS)
def test_every_command_of_ours_is_inside(name: str) -> None:
    assert check_schema("command", name, codec.command_schema(name).text) == name
    tiny_check_schema("command", name, codec.command_schema(name).text)


def test_an_events_schema_must_be_the_whole_records() -> None:
    text = codec.event_schema("RunClosed").text
    for forged in (text.replace('"prev_hash"', '"prev"'), text.replace("record.RunClosed", "record.RunOpened")):
        with pytest.raises(MalformedRecordError):
            check_schema("event", "RunClosed", forged)
        with pytest.raises(Bad):
            tiny_check_schema("event", "RunClosed", forged)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["record", "array", "fixed", "long", "null", "a.b", "tensorguard.command.X"])
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "name", "fields", "items", "size", "symbols"]), inner, max_size=6)
    ),
    max_leaves=20,
)


@given(JSON, st.sampled_from(["event", "command"]))
def test_any_json_is_judged_alike_by_both_verifiers(value: Any, kind: str) -> None:
    text = fmt.compact(value)
    assert judged(check_schema, kind, text, MalformedRecordError) == judged(tiny_check_schema, kind, text, Bad)


def judged(check: Any, kind: str, text: str, error: type[Exception]) -> bool:
    try:
        check(kind, "X", text)
    except error:
        return False
    return True
