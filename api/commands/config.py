"""``tensorguard config``: what is set, and where each value comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.commands.common import AsJson, table

NAME = "config"
app = typer.Typer(help="Show the settings.", no_args_is_help=True)


@app.callback()
def _config() -> None:
    """Show the settings."""


@app.command()
def show(
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="The installation's folder, whose settings.toml is read.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="As given to `tensorguard server`.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="As given to `tensorguard server`.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Print every setting with its value (secrets masked) and its source: flag, environment, file or default."""
    from producers.settings import read  # noqa: PLC0415 -- light start
    from producers.settings.table import shown  # noqa: PLC0415

    rows = shown(read(data_dir, {"data_dir": data_dir, "host": host, "port": port}))
    table("Settings", rows, ("setting", "value", "source"), as_json=as_json)
