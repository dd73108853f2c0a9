"""``tg-tinker export``: a checkpoint's weights into a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from tensorguard.errors import UsageError

from tg_tinker.cli.output import show
from tg_tinker.cli.session import AsJson, Timeout, connect
from tg_tinker.exports import Format, Report

FORMATS = ("peft", "merged")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("export")(export)


def export(
    context: typer.Context,
    artifact_id: Annotated[str, typer.Argument(metavar="ARTIFACT_ID", help="The checkpoint.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder to make; it is there whole or not at all.")],
    format: Annotated[  # noqa: A002 -- the option's name
        str, typer.Option("--format", help="peft: an adapter that peft loads; merged: the whole model.")
    ] = FORMATS[0],
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a checkpoint's weights. A broken download goes on where it broke off when it is asked for again."""
    if format not in FORMATS:
        raise UsageError(f"There is no format {format!r}.", next_step=f"Take one of {', '.join(FORMATS)}.")
    with connect(context) as client, _bar(out.name) as report:
        path = client.export_artifact(artifact_id, out, cast("Format", format), timeout=timeout, report=report)
    files = {file.name: file.stat().st_size for file in sorted(path.iterdir())}
    show({"artifact_id": artifact_id, "format": format, "path": str(path), "files": files}, as_json=as_json)


@contextmanager
def _bar(name: str) -> Iterator[Report | None]:
    """A progress bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
