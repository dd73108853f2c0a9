"""Which Avro schemas may stand on a ledger: a subset that every decoder reads alike and no bytes can make it hang.

Allowed: record, fixed, enum, array, bytes, string, boolean, int, long, double, and unions of one type with
null. A name is defined before its use, so nothing recurses; every array item takes at least a byte.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import MalformedRecordError

SCALARS = frozenset({"bytes", "string", "boolean", "int", "long", "double"})
KEYS = {
    "record": ({"type", "name", "fields"}, {"doc"}),
    "fixed": ({"type", "name", "size"}, {"doc"}),
    "enum": ({"type", "name", "symbols"}, {"doc"}),
    "array": ({"type", "items"}, set[str]()),
}
MAX_DEPTH = 16
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NULLABLE = 2
_TOO_DEEP = "A schema is nested too deeply."


def check_schema(kind: str, name: str | None, text: str) -> str:
    """The name of the event or command that a schema text describes.

    Args:
        kind: "event" (a whole record's schema) or "command" (a body's).
        name: the name it is registered under, if known.
        text: the exact text.

    Raises:
        MalformedRecordError: the text is not in its compact form, is outside the subset, or is of another
            kind or name.
    """
    schema = _parse(text)
    body = _event_body(schema, text) if kind == "event" else schema
    _check(schema, {}, 0)
    namespace, _, found = body["name"].rpartition(".")
    if body["type"] != "record" or namespace != f"tensorguard.{kind}" or name not in (None, found):
        raise MalformedRecordError(f"A schema is not that of the {kind} that it is registered for.")
    return str(found)


def _parse(text: str) -> Any:
    try:
        schema = json.loads(text)
        compact = fmt.compact(schema)
    except (ValueError, RecursionError) as error:
        raise MalformedRecordError("A schema text is no JSON.") from error
    if compact != text or not isinstance(schema, dict) or not isinstance(schema.get("name"), str):
        raise MalformedRecordError("A schema text is no named schema in compact form.")
    return schema


def _event_body(schema: Any, text: str) -> Any:
    try:
        body = schema["fields"][2]["type"]
        if isinstance(body["name"], str) and fmt.record_schema_text(body) == text:
            return body
    except (KeyError, IndexError, TypeError):
        pass
    raise MalformedRecordError("A schema of an event is not composed of meta, command and body.")


def _check(schema: Any, names: dict[str, int], depth: int) -> int:
    """How deep the values of a type nest; ``names`` says so of each type that is defined before."""
    _require(depth <= MAX_DEPTH, _TOO_DEEP)
    if isinstance(schema, str):
        _require(schema in SCALARS or schema in names, "A schema uses a type that is not defined before.")
        height = names.get(schema, 0)
        _require(depth + height <= MAX_DEPTH, _TOO_DEEP)
        return height
    if isinstance(schema, list):
        _require(len(schema) == _NULLABLE and schema[0] == "null", "A union is not of null and one type.")
        _require(not isinstance(schema[1], list), "A union stands inside a union.")
        return 1 + _check(schema[1], names, depth + 1)
    return _check_complex(schema, names, depth)


def _check_complex(schema: Any, names: dict[str, int], depth: int) -> int:
    _require(isinstance(schema, dict) and isinstance(schema.get("type"), str), "A schema holds no type.")
    needed, optional = KEYS.get(schema["type"], (set[str](), set[str]()))
    _require(
        bool(needed) and needed <= set(schema) <= needed | optional, "A schema has a type or key that is not allowed."
    )
    if schema["type"] == "array":
        return 1 + _check(schema["items"], names, depth + 1)
    _require(isinstance(schema["name"], str) and bool(_NAME.fullmatch(schema["name"])), "A name in a schema is none.")
    _require(schema["name"] not in names.keys() | SCALARS, "A schema defines a name twice.")
    height = 0
    if schema["type"] == "record":
        height = _check_fields(schema["fields"], names, depth)
    elif schema["type"] == "enum":
        _require(_distinct(schema["symbols"]), "An enum's symbols are not distinct names.")
    else:
        size = schema["size"]
        _require(type(size) is int and 0 < size <= fmt.MAX_RECORD_BYTES, "A fixed type has no possible size.")
    names[schema["name"]] = height
    return height


def _check_fields(fields: Any, names: dict[str, int], depth: int) -> int:
    _require(isinstance(fields, list) and bool(fields), "A record in a schema has no fields.")
    height = 0
    for field in fields:
        keys = set(field) if isinstance(field, dict) else set[str]()
        _require(
            {"name", "type"} <= keys <= {"name", "type", "default", "doc"}, "A field has a key that is not allowed."
        )
        height = max(height, 1 + _check(field["type"], names, depth + 1))
    _require(_distinct([field["name"] for field in fields]), "A record's fields have no distinct names.")
    return height


def _distinct(names: Any) -> bool:
    named = isinstance(names, list) and all(isinstance(name, str) and _SYMBOL.fullmatch(name) for name in names)
    return named and bool(names) and len(set(names)) == len(names)


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 -- an assertion that raises our own error
    if not holds:
        raise MalformedRecordError(message)
