"""Typed classes to Avro and back, and the exact schema text and digest of each.

A command's schema text is its ``.avsc`` in compact form; an event's is the whole record's, since that is what is
hashed into the chain.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from tensorguard.ledger import avro
from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import MalformedRecordError

from schemas import commands, events
from schemas.base import Command, Event

T = TypeVar("T")
_SCALARS = frozenset({str, bytes, int, float, bool, type(None)})

EVENTS: dict[str, type[Event]] = {name: getattr(events, name) for name in events.__all__}
COMMANDS: dict[str, type[Command]] = {name: getattr(commands, name) for name in commands.__all__}


@dataclass(frozen=True, slots=True)
class WrittenSchema:
    """A schema as the ledger registers it: kind ("event" or "command"), name, SHA-256 and exact text."""

    kind: str
    name: str
    digest: bytes
    text: str


def _avsc(kind: str, name: str) -> Any:
    return json.loads((files("schemas") / "avsc" / f"{kind}s" / f"{name}.avsc").read_text())


@cache
def event_schema(name: str) -> WrittenSchema:
    """The record schema of an event."""
    text = fmt.record_schema_text(_avsc("event", name))
    return WrittenSchema("event", name, fmt.schema_digest(text), text)


@cache
def command_schema(name: str) -> WrittenSchema:
    """The body schema of a command."""
    text = fmt.compact(_avsc("command", name))
    return WrittenSchema("command", name, fmt.schema_digest(text), text)


@cache
def _parsed_command(name: str) -> Any:
    return avro.parse(command_schema(name).text)


def encode_command(command: Command) -> bytes:
    """The Avro body of a command.

    Raises:
        MalformedRecordError: a field does not fit its schema.
    """
    return avro.encode(_parsed_command(type(command).__name__), to_dict(command))


def decode_command(name: str, digest: bytes, body: bytes) -> Command:
    """The typed command of a body.

    Raises:
        MalformedRecordError: unknown type, another schema than ours, or bytes that do not fit it or are not what
            :func:`encode_command` gives.
    """
    if name not in COMMANDS or command_schema(name).digest != digest:
        raise MalformedRecordError(f"No command {name!r} with that schema is known to this build.")
    return from_dict(COMMANDS[name], avro.decode_canonical(_parsed_command(name), body))


def decode_event(name: str, body: Mapping[str, Any]) -> Event:
    """The typed event of a decoded record's body.

    Raises:
        MalformedRecordError: an event this build does not know, or one that lacks a field that this build needs.
    """
    if name not in EVENTS:
        raise MalformedRecordError(f"No event {name!r} is known to this build.")
    try:
        return from_dict(EVENTS[name], body)
    except (KeyError, TypeError) as error:
        raise MalformedRecordError(f"This build cannot read {name!r} as it was written.") from error


def to_dict(message: Any) -> dict[str, Any]:
    """A typed value as plain dictionaries, lists and scalars, ready for Avro."""
    return {name: _plain(getattr(message, name)) for name in field_names(message)}


def _plain(value: Any) -> Any:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return to_dict(value) if is_dataclass(value) else value


def field_names(message: Any) -> tuple[str, ...]:
    """The names of a typed value's fields, in order."""
    return _names(cast("Any", type(message)))


@cache
def _names(cls: type[Any]) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


def from_dict(cls: type[T], value: Mapping[str, Any]) -> T:
    """A typed value from plain dictionaries."""
    return cls(**{name: build(value[name]) if build else value[name] for name, build in _builders(cast("Any", cls))})


@cache
def _builders(cls: type[Any]) -> tuple[tuple[str, Callable[[Any], Any] | None], ...]:
    hints = get_type_hints(cls)
    return tuple((f.name, _builder(hints[f.name])) for f in fields(cls))


def _builder(hint: Any) -> Callable[[Any], Any] | None:
    """What makes a field's value of what Avro gives; None if that is it."""
    if get_origin(hint) in (Union, types.UnionType):
        inner = _builder(next(arg for arg in get_args(hint) if arg is not type(None)))
        return inner and (lambda value: None if value is None else inner(value))
    if get_origin(hint) is tuple:
        item = _builder(get_args(hint)[0])
        return (lambda value: tuple(map(item, value))) if item else tuple
    if is_dataclass(hint):
        record: type[Any] = cast("Any", hint)
        return lambda value: from_dict(record, value)
    return None
