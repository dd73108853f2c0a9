"""What was written stays readable: a schema that breaks this fails here, and so does a class that differs from it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from schemas import codec
from schemas.base import Event
from schemas.compatibility import FROZEN, check, class_problems, main, problems, snapshot
from schemas.types import LoraSpec


def test_todays_schemas_read_what_the_frozen_ones_wrote() -> None:
    check()


def test_every_event_and_command_of_today_is_frozen() -> None:
    """A new one must be frozen with the commit that brings it: python -m schemas.compatibility freeze."""
    frozen = json.loads(FROZEN.read_text())
    assert {kind: set(frozen[kind]) for kind in ("event", "command")} == {
        "event": set(codec.EVENTS),
        "command": set(codec.COMMANDS),
    }


def field(schema: Any, name: str) -> Any:
    return next(each for each in schema["fields"] if each["name"] == name)


def add_with_default(today: Any) -> None:
    today["event"]["RunClosed"]["fields"].append({"name": "reason", "type": "string", "default": ""})


def add_nullable_with_default(today: Any) -> None:
    today["event"]["RunClosed"]["fields"].append({"name": "by", "type": ["null", "string"], "default": None})


def remove_field(today: Any) -> None:
    del today["event"]["ModelRegistered"]["fields"][-1]


def reorder(today: Any) -> None:
    today["event"]["ModelRegistered"]["fields"].sort(key=lambda each: each["name"])


def widen(today: Any) -> None:
    field(today["event"]["ForwardBackwardSubmitted"], "rows")["type"] = "long"


def make_nullable(today: Any) -> None:
    field(today["event"]["RunClosed"], "run_id")["type"] = ["null", "string"]


def new_message(today: Any) -> None:
    today["event"]["RunPaused"] = {**today["event"]["RunClosed"], "name": "tensorguard.event.RunPaused"}


COMPATIBLE: dict[str, Callable[[Any], None]] = {
    "a new field with a default": add_with_default,
    "a new nullable field with a default": add_nullable_with_default,
    "a field that is gone": remove_field,
    "fields in another order": reorder,
    "a wider number": widen,
    "a field that may now be null": make_nullable,
    "a new event": new_message,
}


def add_without_default(today: Any) -> None:
    today["command"]["CloseRun"]["fields"].append({"name": "reason", "type": "string"})


def rename_field(today: Any) -> None:
    field(today["event"]["RunClosed"], "run_id")["name"] = "run"


def narrow(today: Any) -> None:
    field(today["event"]["ForwardBackwardSubmitted"], "tokens")["type"] = "int"


def other_scalar(today: Any) -> None:
    field(today["event"]["RunClosed"], "run_id")["type"] = "long"


def no_longer_null(today: Any) -> None:
    field(today["event"]["RunCreated"], "max_steps")["type"] = "long"


def other_fixed_size(today: Any) -> None:
    field(today["event"]["RunClosed"], "run_id")["type"] = "string"
    field(today["event"]["PackageOpened"], "device")["type"] = {"type": "fixed", "name": "x.Y", "size": 16}


def nested_add(today: Any) -> None:
    field(today["event"]["StepApplied"], "plan")["type"]["fields"].append({"name": "seed", "type": "long"})


def nested_in_union(today: Any) -> None:
    field(field(today["event"]["RunCreated"], "lora")["type"][1], "rank")["type"] = "string"


def array_items(today: Any) -> None:
    field(today["event"]["ApiKeyIssued"], "scopes")["type"]["items"] = "long"


def enum_symbol(today: Any) -> None:
    field(today["event"]["SchemaRegistered"], "kind")["type"]["symbols"].remove("command")


def rename_record(today: Any) -> None:
    today["event"]["RunClosed"]["name"] = "tensorguard.event.RunEnded"


def remove_message(today: Any) -> None:
    del today["event"]["RunClosed"]


def shared(today: Any) -> None:
    today["shared"]["meta"]["fields"].append({"name": "more", "type": "string", "default": ""})


INCOMPATIBLE: dict[str, Callable[[Any], None]] = {
    "a new field without a default": add_without_default,
    "a renamed field": rename_field,
    "a narrower number": narrow,
    "another type": other_scalar,
    "no longer nullable": no_longer_null,
    "a fixed type of another size": other_fixed_size,
    "a new field in a nested record": nested_add,
    "another type in a nested record of a union": nested_in_union,
    "other items in an array": array_items,
    "a symbol less in an enum": enum_symbol,
    "another name": rename_record,
    "an event that is gone": remove_message,
    "what every record shares": shared,
}


def changed(change: Callable[[Any], None]) -> list[str]:
    today = copy.deepcopy(snapshot())
    change(today)
    return problems(snapshot(), today)


@pytest.mark.parametrize("change", COMPATIBLE.values(), ids=COMPATIBLE)
def test_a_compatible_change_is_allowed(change: Callable[[Any], None]) -> None:
    assert changed(change) == []


@pytest.mark.parametrize("change", INCOMPATIBLE.values(), ids=INCOMPATIBLE)
def test_an_incompatible_change_is_named(change: Callable[[Any], None]) -> None:
    assert len(changed(change)) == 1


@pytest.mark.parametrize("kind", ["event", "command"])
def test_every_class_agrees_with_its_schema(kind: str) -> None:
    classes: dict[str, type[Any]] = dict(codec.EVENTS if kind == "event" else codec.COMMANDS)
    assert [why for cls in classes.values() for why in class_problems(kind, cls)] == []


def test_every_schema_has_its_class() -> None:
    for kind, known in (("event", codec.EVENTS), ("command", codec.COMMANDS)):
        stored = {path.stem for path in (FROZEN.parents[1] / "avsc" / f"{kind}s").glob("*.avsc")}
        assert stored == set(known)


@dataclass(frozen=True, slots=True)
class Fields(Event):
    run_id: str
    more: int


@dataclass(frozen=True, slots=True)
class Types(Event):
    run_id: bytes


@dataclass(frozen=True, slots=True)
class Order(Event):
    code: str
    package_id: bytes


@dataclass(frozen=True, slots=True)
class NotNullable(Event):
    key_id: bytes
    public_key: bytes
    role: str
    name: str
    hpke_public_key: bytes


@dataclass(frozen=True, slots=True)
class Items(Event):
    key_id: str
    secret_hash: bytes
    scopes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Nested(Event):
    run_id: str
    operation_id: bytes
    lease_epoch: int
    step: int
    learning_rate: float
    adapter_digest: bytes
    plan: LoraSpec


DISAGREEING: dict[str, tuple[type[Any], str]] = {
    "another field": (Fields, "RunClosed"),
    "another type": (Types, "RunClosed"),
    "another order": (Order, "PackageFailed"),
    "not nullable": (NotNullable, "ProducerEnrolled"),
    "other items": (Items, "ApiKeyIssued"),
    "another nested record": (Nested, "StepApplied"),
}


@pytest.mark.parametrize(("cls", "name"), DISAGREEING.values(), ids=DISAGREEING)
def test_a_class_that_disagrees_with_its_schema_is_named(cls: type[Any], name: str) -> None:
    renamed = type(name, (cls,), {"__slots__": ()})
    assert len(class_problems("event", renamed)) == 1


def test_the_command_line_checks_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert main([]) == 2
    assert "check|freeze" in capsys.readouterr().err
