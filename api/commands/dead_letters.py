"""``tensorguard ledger dead-letters``: commands that could not be decided, with or without a server."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tensorguard.errors import TensorGuardError, UsageError

from api.commands.common import AsJson, DataDir, Workbench, show, table, workbench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.dead_letters import Retried

NAME = "dead-letters"
app = typer.Typer(help="Commands that could not be decided: look, try again, or remove them.", no_args_is_help=True)
Position = Annotated[int, typer.Argument(min=0, max=1 << 62, help="Which one: its position in `list`.")]
Positions = Annotated[
    list[int] | None, typer.Argument(min=0, max=1 << 62, help="Which ones: their positions in `list`.")
]
All = Annotated[bool, typer.Option("--all", help="All that there are.")]


class NotDecidedError(TensorGuardError):
    """What was retried was refused, or could not be decided again."""

    code = "not_decided"
    next_step = (
        "Report the type of error that `command_quarantined` in the log names, and retry with a build that decides it; "
        "or drop it."
    )


class NotConfirmedError(TensorGuardError):
    """A question was not answered with yes."""

    code = "not_confirmed"
    next_step = "Answer with y, or give --yes."


@app.command(name="list")
def list_letters(data_dir: DataDir, *, as_json: AsJson = False) -> None:
    """What was set aside, oldest first. What it claims to be, nobody has checked."""
    from api.dead_letters import describe  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench:
        letters, now = bench.engine.quarantined(), bench.installation.clock()
        rows = [row for letter in letters if (row := describe(bench.engine, letter, now))]
    columns = ("position", "set_aside", "command", "chain", "expired", "reason")
    table("Dead letters", rows if as_json else [_line(row) for row in rows], columns, as_json=as_json)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """What of a dead letter fits on a line."""
    claims = row["claims"] or {"command": None, "chain": None}
    at = row["set_aside_at"]
    expired = {True: "yes", False: "no", None: None}[row["expired"]]
    return {**row, **claims, "set_aside": at and at[:19].replace("T", " "), "expired": expired}


@app.command(name="show")
def show_letter(
    position: Position,
    data_dir: DataDir,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new file for its bytes, body included, that only you can read.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What one claims to be; its body is never printed."""
    with workbench(data_dir) as bench:
        row = _described(bench, position)
        data = bench.engine.dead_letter(position)
    if row is None or data is None:
        raise _missing(position)
    if out is not None:
        _write(out, data)
    flat = {**row, **(row["claims"] or {"claims": "cannot be read"})}
    lines = [f"{name}: {_said(value)}" for name, value in flat.items() if value is not None and value != row["claims"]]
    show(row, lines, as_json=as_json)


@app.command(name="retry")
def retry_letters(
    data_dir: DataDir, positions: Positions = None, *, every: All = False, as_json: AsJson = False
) -> None:
    """Put the very same signed bytes back into the intake, and wait for what becomes of them.

    The exit code is 1 if one was refused or set aside again, which holds up nothing else.
    """
    from dataclasses import asdict  # noqa: PLC0415 -- light start

    from api.dead_letters import retry  # noqa: PLC0415

    with workbench(data_dir) as bench:
        chosen = _chosen(bench, positions, every=every)
        results = [retry(bench.engine, bench.submitter, position) for position in chosen]
    columns = ("position", "outcome", "code", "detail", "new_position")
    table("Retried", [asdict(each) for each in results], columns, as_json=as_json)
    _raise_for(results)


def _raise_for(results: Sequence[Retried]) -> None:
    if failed := [str(each.position) for each in results if not each.decided]:
        raise NotDecidedError(f"There is no decision on what was at {', '.join(failed)}.")


@app.command(name="drop")
def drop_letters(
    data_dir: DataDir,
    positions: Positions = None,
    *,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove them for good: their commands are then nowhere. What their submitters were told stands."""
    with workbench(data_dir) as bench:
        chosen = _chosen(bench, positions, every=every)
        if chosen and not yes:
            _confirm(f"Drop {len(chosen)} dead letters for good?")
        for position in chosen:
            bench.engine.drop(position)
    show({"dropped": chosen}, [f"{len(chosen)} dropped"], as_json=as_json)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("There is nobody to ask here.", next_step="Give --yes.")
    if not typer.confirm(question, err=True):
        raise NotConfirmedError("Nothing was dropped.")


def _described(bench: Workbench, position: int) -> dict[str, Any] | None:
    from api.dead_letters import describe  # noqa: PLC0415 -- light start

    for letter in bench.engine.quarantined():
        if letter.position == position:
            return describe(bench.engine, letter, bench.installation.clock())
    return None


def _chosen(bench: Workbench, positions: Sequence[int] | None, *, every: bool) -> list[int]:
    """The positions that a command is about, all of them dead letters at this moment."""
    there = [letter.position for letter in bench.engine.quarantined()]
    if every == bool(positions):
        raise UsageError(
            "Name positions, or give --all.", next_step="List them with `tensorguard ledger dead-letters list`."
        )
    chosen = there if every else list(dict.fromkeys(positions or ()))
    for position in chosen:
        if position not in there:
            raise _missing(position)
    return chosen


def _missing(position: int) -> TensorGuardError:
    from producers.engines.errors import NoDeadLetterError  # noqa: PLC0415 -- light start

    return NoDeadLetterError(f"No dead letter has the position {position}.")


def _said(value: object) -> str:
    return " ".join(str(part) for part in value.values() if part) if isinstance(value, dict) else str(value)


def _write(path: Path, data: bytes) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 -- Path.open takes no mode
            file.write(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).", next_step="Name a new file.") from error
