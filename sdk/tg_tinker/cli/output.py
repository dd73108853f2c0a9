"""What ``tg-tinker`` prints: tables for people, ``--json`` for programs; errors on stderr, each with its exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from tensorguard.errors import TensorGuardError


def show(value: BaseModel | Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: its fields below each other."""
    fields = _plain(value)
    if as_json:
        _print_json(fields)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, field in fields.items():
        table.add_row(f"[bold]{name}[/bold]", _cell(field))
    Console().print(table)


def show_all(values: Sequence[BaseModel], columns: Sequence[str], *, as_json: bool) -> None:
    """Several things: one a line, with these of their fields."""
    rows = [_plain(value) for value in values]
    if as_json:
        _print_json(rows)
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console().print(table)


def complain(error: TensorGuardError, *, as_json: bool) -> None:
    """An error with its next step; never a traceback."""
    if as_json:
        problem = getattr(error, "problem", {})
        document = {"code": error.code, "detail": error.detail, "next_step": error.next_step, "problem": problem}
        sys.stderr.write(json.dumps({"error": document}) + "\n")
    else:
        sys.stderr.write(f"error[{error.code}]: {error}\n")


def _plain(value: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else dict(value)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("[", r"\[")  # what a model writes is no markup of ours
