"""Whether what is written today can still be read by what was written before: schemas and classes, checked.

``schemas/frozen/schemas.json`` keeps the schemas as of the last freeze. A change must be BACKWARD compatible: the
schemas of today must read every value that a frozen one wrote. ``python -m schemas.compatibility check`` says what is
not; ``freeze`` takes today's schemas in, if they are compatible.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from tensorguard.errors import TensorGuardError
from tensorguard.ledger import format as fmt

from schemas import codec

FROZEN = Path(__file__).parent / "frozen" / "schemas.json"
PROMOTIONS: Mapping[str, frozenset[str]] = {
    "int": frozenset({"int", "long", "float", "double"}),
    "long": frozenset({"long", "float", "double"}),
    "float": frozenset({"float", "double"}),
    "string": frozenset({"string", "bytes"}),
    "bytes": frozenset({"bytes", "string"}),
}
"""What a reader may call a scalar that was written as the key; any other scalar only as itself."""
SCALARS: Mapping[str, type[Any]] = {
    "string": str,
    "bytes": bytes,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": bool,
}
Named = dict[str, Any]


class IncompatibleSchemaError(TensorGuardError):
    """A schema of today does not read what was written before."""

    code = "incompatible_schema"
    next_step = "Give a new field a default, or make a new event or command beside the old one."


def snapshot() -> dict[str, Any]:
    """Today's schemas: what every record and command shares, and the body of each event and command."""
    return {
        "shared": {"meta": fmt.META, "signed_command": fmt.SIGNED_COMMAND, "envelope": fmt.ENVELOPE},
        "event": {name: _avsc("event", name) for name in sorted(codec.EVENTS)},
        "command": {name: _avsc("command", name) for name in sorted(codec.COMMANDS)},
    }


def _avsc(kind: str, name: str) -> Any:
    return json.loads((files("schemas") / "avsc" / f"{kind}s" / f"{name}.avsc").read_text())


def problems(frozen: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    """Why today's schemas cannot stand for the frozen ones; empty if they can."""
    found: list[str] = []
    if frozen["shared"] != today["shared"]:
        found.append("What every record shares has changed: that is a new format.")
    for kind in ("event", "command"):
        for name, written in frozen[kind].items():
            if name not in today[kind]:
                found.append(f"{kind} {name}: is gone, and the ledger still holds it.")
                continue
            found += [f"{kind} {name}{why}" for why in _resolution_problems(kind, written, today[kind][name])]
    return found


def _resolution_problems(kind: str, written: Any, read: Any) -> Iterator[str]:
    writer, reader = _shared_names(kind), _shared_names(kind)
    _collect(written, writer)
    _collect(read, reader)
    return _unreadable(written, read, writer, reader)


def _shared_names(kind: str) -> Named:
    names: Named = {}
    if kind == "event":
        _collect(fmt.META, names)
    return names


def _collect(schema: Any, names: Named) -> None:
    """Gather the named types that a schema defines."""
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, names)
    elif isinstance(schema, dict):
        if "name" in schema:
            names[schema["name"]] = schema
        _collect(schema.get("items"), names)
        for field in schema.get("fields", ()):
            _collect(field["type"], names)


def _unreadable(written: Any, read: Any, writer: Named, reader: Named) -> Iterator[str]:
    """Avro's schema resolution for the types that our schemas use; a path and a reason for each mismatch."""
    written, read = _resolved(written, writer), _resolved(read, reader)
    if isinstance(written, list):
        for branch in written:
            yield from _unreadable(branch, read, writer, reader)
    elif isinstance(read, list):
        if all(any(_unreadable(written, branch, writer, reader)) for branch in read):
            yield f": no branch reads a {_kind(written)}"
    elif _kind(written) != _kind(read):
        if _kind(read) not in PROMOTIONS.get(_kind(written), ()):
            yield f": a {_kind(written)} is read as a {_kind(read)}"
    elif isinstance(written, dict):
        yield from _unreadable_complex(written, read, writer, reader)


def _unreadable_complex(written: Any, read: Any, writer: Named, reader: Named) -> Iterator[str]:
    if written.get("name") != read.get("name"):
        yield f": {written['name']} is read as {read['name']}"
    elif written["type"] == "array":
        yield from _unreadable(written["items"], read["items"], writer, reader)
    elif written["type"] == "fixed" and written["size"] != read["size"]:
        yield f": {written['size']} bytes are read as {read['size']}"
    elif written["type"] == "enum":
        yield from (f": symbol {symbol} is gone" for symbol in written["symbols"] if symbol not in read["symbols"])
    elif written["type"] == "record":
        yield from _unreadable_fields(written, read, writer, reader)


def _unreadable_fields(written: Any, read: Any, writer: Named, reader: Named) -> Iterator[str]:
    before = {field["name"]: field["type"] for field in written["fields"]}
    for field in read["fields"]:
        name = field["name"]
        if name in before:
            yield from (f".{name}{why}" for why in _unreadable(before[name], field["type"], writer, reader))
        elif "default" not in field:
            yield f".{name}: is new and has no default"


def _resolved(schema: Any, names: Named) -> Any:
    return names.get(schema, schema) if isinstance(schema, str) else schema


def _kind(schema: Any) -> str:
    return str(schema["type"]) if isinstance(schema, dict) else str(schema)


def class_problems(kind: str, cls: type[Any]) -> list[str]:
    """Where a class disagrees with the ``.avsc`` of its name: fields, their order, their types."""
    schema = _avsc(kind, cls.__name__)
    names = _shared_names(kind)
    _collect(schema, names)
    if schema["name"] != f"tensorguard.{kind}.{cls.__name__}":
        return [f"{cls.__name__}: its schema is called {schema['name']}"]
    return [f"{cls.__name__}{why}" for why in _disagreements(cls, schema, names)]


def _disagreements(hint: Any, schema: Any, names: Named) -> Iterator[str]:
    schema = _resolved(schema, names)
    if isinstance(schema, list):
        yield from _nullable_disagreements(hint, schema, names)
    elif _kind(schema) == "record":
        yield from _record_disagreements(hint, schema, names)
    elif _kind(schema) == "array":
        if get_origin(hint) is not tuple or get_args(hint)[1:] != (Ellipsis,):
            yield f": an array is a {hint}"
        else:
            yield from _disagreements(get_args(hint)[0], schema["items"], names)
    elif hint is not _scalar_class(schema):
        yield f": a {_kind(schema)} is a {hint}"


def _nullable_disagreements(hint: Any, schema: Any, names: Named) -> Iterator[str]:
    inner = [arg for arg in get_args(hint) if arg is not type(None)]
    nullable = get_origin(hint) in (Union, types.UnionType) and len(inner) + 1 == len(get_args(hint))
    if not nullable or len(inner) != 1 or schema[0] != "null" or len(schema) != len(get_args(hint)):
        yield f": a union with null is a {hint}"
    else:
        yield from _disagreements(inner[0], schema[1], names)


def _record_disagreements(hint: Any, schema: Any, names: Named) -> Iterator[str]:
    if not is_dataclass(hint) or schema["name"].rpartition(".")[2] != getattr(hint, "__name__", ""):
        yield f": a {schema['name']} is a {hint}"
        return
    here, there = [f.name for f in fields(hint)], [field["name"] for field in schema["fields"]]
    if here != there:
        yield f": the class has {here}, the schema {there}"
        return
    hints = get_type_hints(hint)
    for field in schema["fields"]:
        yield from (f".{field['name']}{why}" for why in _disagreements(hints[field["name"]], field["type"], names))


def _scalar_class(schema: Any) -> type[Any]:
    if _kind(schema) in ("fixed", "enum"):
        return bytes if _kind(schema) == "fixed" else str
    return SCALARS[_kind(schema)]


def check() -> None:
    """Check today's schemas against the frozen ones.

    Raises:
        IncompatibleSchemaError: naming every field that is in the way.
    """
    found = problems(json.loads(FROZEN.read_text()), snapshot()) if FROZEN.exists() else []
    if found:
        raise IncompatibleSchemaError(" ".join(found))


def freeze() -> None:
    """Take today's schemas as what later ones must be able to read.

    Raises:
        IncompatibleSchemaError: they cannot stand for those frozen before.
    """
    check()
    FROZEN.parent.mkdir(exist_ok=True)
    FROZEN.write_text(json.dumps(snapshot(), indent=1) + "\n")


def main(arguments: Sequence[str]) -> int:
    """Run ``check`` or ``freeze``; 0 if done, 1 if incompatible, 2 on any other argument."""
    action = {"check": check, "freeze": freeze}.get(" ".join(arguments))
    if action is None:
        sys.stderr.write("usage: python -m schemas.compatibility check|freeze\n")
        return 2
    try:
        action()
    except IncompatibleSchemaError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
