"""``tensorguard server``."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.common import DataDir


def run(
    data_dir: DataDir,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Port to listen on; 0 takes a free one.  [default: 8000]")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="ROLE",
            help="On Kafka: run one role alone: exchange, sequencer, signer, trainer, worker or api.",
        ),
    ] = None,
) -> None:
    """Run a server on a data directory until it gets SIGTERM or Ctrl-C. It is ready when /readyz answers 200."""
    from api.server import serve  # noqa: PLC0415 -- light start
    from api.serving import leave  # noqa: PLC0415
    from producers.settings import read  # noqa: PLC0415

    serve(data_dir, read(data_dir, {"host": host, "port": port}).settings, only)
    leave()
