"""The platform's part of the ``tensorguard`` command line. Each command imports what it needs when it runs."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the platform's commands."""
    from api.commands import config, devices, doctor, keys, ledger, models, projections, server, signer  # noqa: PLC0415 -- light start
    from api.demo import commands as demo  # noqa: PLC0415

    app.command("server")(server.run)
    app.command("doctor")(doctor.run)
    for part in (config, keys, models, devices, ledger, projections, signer):
        app.add_typer(part.app, name=part.NAME)
    demo.register(app)
