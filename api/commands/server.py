"""``tensorguard server``."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.common import DataDir


def run(
    data_dir: DataDir,
    host: Annotated[str, typer.Option("--host", envvar="TG_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", envvar="TG_PORT", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
) -> None:
    """Run a server on a data directory until it gets SIGTERM or Ctrl-C. It is ready when /readyz answers 200."""
    from api.server import serve  # noqa: PLC0415 -- light start
    from api.settings import ServerSettings  # noqa: PLC0415

    serve(ServerSettings.read(data_dir, host, port))
