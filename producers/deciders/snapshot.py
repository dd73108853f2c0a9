"""States as canonical JSON and back: sorted keys, no spaces, bytes as hex. Equal states give equal bytes."""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from tensorguard.errors import TensorGuardError


class SnapshotError(TensorGuardError):
    """Bytes that are no snapshot of such a state."""

    code = "snapshot_damaged"
    next_step = "Drop the snapshot: the states are folded again from the ledger."


def to_json(state: object | None) -> bytes:
    """The canonical bytes of a state (a dataclass of scalars, bytes, tuples, dataclasses) or of none."""
    return json.dumps(_plain(state), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def from_json(cls: type[Any], data: bytes) -> Any:
    """The state of that class, or None where the bytes say null.

    Raises:
        SnapshotError: the bytes are not what :func:`to_json` gives for such a state.
    """
    try:
        value = json.loads(data)
        state = None if value is None else _builder(cast("Any", cls))(value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotError(f"A snapshot is no {cls.__name__}.") from error
    if to_json(state) != data:
        raise SnapshotError(f"A snapshot of {cls.__name__} is not in canonical form.")
    return state


@cache
def _builder(hint: Any) -> Callable[[Any], Any]:
    if get_origin(hint) in (Union, types.UnionType):
        inner = _builder(next(arg for arg in get_args(hint) if arg is not type(None)))
        return lambda value: None if value is None else inner(value)
    if get_origin(hint) is tuple:
        item = _builder(get_args(hint)[0])
        return lambda values: tuple(item(value) for value in values)
    if is_dataclass(hint):
        return _record_builder(hint)
    return bytes.fromhex if hint is bytes else lambda value: _checked(value, hint)


def _record_builder(cls: Any) -> Callable[[Any], Any]:
    builders = {name: _builder(hint) for name, hint in get_type_hints(cls).items()}

    def build(value: Any) -> Any:
        if value.keys() != builders.keys():
            raise TypeError(cls.__name__)
        return cls(**{name: build_field(value[name]) for name, build_field in builders.items()})

    return build


def _checked(value: Any, hint: type[Any]) -> Any:
    if type(value) is not hint:
        raise TypeError(hint.__name__)
    return value
