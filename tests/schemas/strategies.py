"""Any value that an Avro schema of ours allows, as plain dictionaries, lists and scalars."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(codec="utf-8"), max_size=20),
    "bytes": st.binary(max_size=40),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(),
    "boolean": st.booleans(),
}


def values(schema: Any, names: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of a schema; ``names`` holds the named types defined so far, and takes in its own."""
    if isinstance(schema, list):
        return st.none() | values(schema[1], names)
    if isinstance(schema, str):
        return SCALARS[schema] if schema in SCALARS else values(names[schema], names)
    if "name" in schema:
        names[schema["name"]] = schema
    if schema["type"] == "record":
        return st.fixed_dictionaries({field["name"]: values(field["type"], names) for field in schema["fields"]})
    if schema["type"] == "array":
        return st.lists(values(schema["items"], names), max_size=3)
    if schema["type"] == "fixed":
        return st.binary(min_size=schema["size"], max_size=schema["size"])
    return st.sampled_from(schema["symbols"])
