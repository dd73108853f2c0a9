"""``tensorguard projections``."""

from __future__ import annotations

import typer

from api.commands.common import AsJson, DataDir, table, workbench

NAME = "projections"
app = typer.Typer(help="The read models.", no_args_is_help=True)


@app.callback()
def projections() -> None:
    """The read models: everything in them follows from the ledger."""


@app.command()
def rebuild(data_dir: DataDir, *, as_json: AsJson = False) -> None:
    """Fold the ledger into a fresh database and put it in the old one's place. No server may run meanwhile."""
    from projections.rebuild import rebuild as fold_anew  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench:
        sizes = fold_anew(bench.installation.data_dir, bench.engine)
    rows = [{"chain": chain, "records": size} for chain, size in sorted(sizes.items())]
    table("Rebuilt", rows, ("chain", "records"), as_json=as_json)
