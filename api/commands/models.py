"""``tensorguard models``: the catalogue that runs start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from api.commands.common import AsJson, CommandError, DataDir, show, table, views_of, workbench

NAME = "models"
app = typer.Typer(help="Add models to the catalogue, list and verify them.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name that clients will use.")],
    path: Annotated[Path, typer.Argument(help="A folder with config, safetensors and tokenizer.")],
    data_dir: DataDir,
    *,
    as_json: AsJson = False,
) -> None:
    """Copy a model into the catalogue and register the digests of all its files on the ledger."""
    from processors.catalogue import register_model  # noqa: PLC0415 -- light start

    with workbench(data_dir, create=True) as bench:
        model = register_model(bench.installation, bench.submitter, name, path)
    value = {
        "name": model.name,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "vocabulary_size": model.vocabulary_size,
        "max_positions": model.max_positions,
        "manifest_digest": model.manifest_digest.hex(),
        "files": len(model.files),
    }
    lines = [
        f"{model.name}: {model.architecture}, {model.parameters:,} parameters, manifest {model.manifest_digest.hex()}"
    ]
    show(value, lines, as_json=as_json)


@app.command("list")
def list_models(data_dir: DataDir, *, as_json: AsJson = False) -> None:
    """List the catalogue."""
    from api.present import iso  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench, views_of(bench) as views:
        rows = [
            {
                "name": row.name,
                "architecture": row.architecture,
                "parameters": row.parameters,
                "vocabulary_size": row.vocabulary_size,
                "max_positions": row.max_positions,
                "manifest_digest": row.manifest_digest,
                "registered_at": iso(row.registered_at),
            }
            for row in views.models()
        ]
    columns = ("name", "architecture", "parameters", "vocabulary_size", "max_positions", "registered_at")
    table("Models", rows, columns, as_json=as_json)


@app.command()
def verify(
    data_dir: DataDir,
    name: Annotated[str | None, typer.Argument(help="One model; all if left out.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Hash the catalogue's files again and compare them with the ledger: exit code 0 if all are unchanged, else 1."""
    with workbench(data_dir) as bench, views_of(bench) as views:
        wanted = [row for row in views.models() if name in (None, row.name)]
        if name is not None and not wanted:
            raise CommandError("The catalogue has no model of this name.")
        rows = [_verified(bench.installation, row.name, bytes.fromhex(row.manifest_digest)) for row in wanted]
    table("Models", rows, ("name", "unchanged", "detail"), as_json=as_json)
    raise typer.Exit(0 if all(row["unchanged"] for row in rows) else 1)


def _verified(installation: Any, name: str, digest: bytes) -> dict[str, Any]:
    from processors.catalogue import model_dir, verify_model  # noqa: PLC0415 -- light start
    from processors.errors import ModelError  # noqa: PLC0415

    try:
        verify_model(model_dir(installation, digest), digest)
    except ModelError as error:
        return {"name": name, "unchanged": False, "detail": str(error)}
    return {"name": name, "unchanged": True, "detail": ""}
