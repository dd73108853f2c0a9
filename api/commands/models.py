"""``tensorguard models``: the catalogue that runs start from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tensorguard.errors import UsageError

from api.commands.common import AsJson, CommandError, DataDir, show, table, views_of, workbench

if TYPE_CHECKING:
    from api.commands.common import Workbench
    from schemas.events import ModelRegistered

NAME = "models"
DTYPES = ("float32", "bfloat16", "float16")
app = typer.Typer(help="Add models to the catalogue, list, verify and remove them.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name that clients will use.")],
    source: Annotated[
        str, typer.Argument(metavar="PATH|HUB-ID", help="A folder with config, safetensors and tokenizer, or a hub's.")
    ],
    data_dir: DataDir,
    *,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch, tag or commit of the hub; its main branch if left out.")
    ] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="What runs load it in: float32, bfloat16 or float16.")] = DTYPES[
        0
    ],
    as_json: AsJson = False,
) -> None:
    """Copy a model into the catalogue and register the digests of all its files on the ledger."""
    if dtype not in DTYPES:
        raise UsageError(f"There is no dtype {dtype!r}.", next_step=f"Take one of {', '.join(DTYPES)}.")
    with workbench(data_dir, create=True) as bench:
        model = _added(bench, name, source, revision, dtype)
    value = {**_described(model), "files": len(model.files)}
    facts = f"{model.architecture}, {model.parameters:,} parameters in {model.dtype}"
    show(value, [f"{model.name}: {facts}, manifest {model.manifest_digest.hex()}"], as_json=as_json)


def _added(bench: Workbench, name: str, source: str, revision: str | None, dtype: str) -> ModelRegistered:
    from processors.catalogue import register_model  # noqa: PLC0415 -- light start
    from processors.catalogue.files import incoming  # noqa: PLC0415
    from processors.catalogue.names import check_name, is_hub_id  # noqa: PLC0415

    check_name(name)
    parts = (bench.installation, bench.submitter, name)
    if Path(source).is_dir() or not is_hub_id(source):
        if revision is not None:
            raise UsageError("A folder has no revisions.", next_step="Leave --revision out, or name a hub's model.")
        return register_model(*parts, Path(source), dtype=dtype)
    from processors.catalogue.hub import fetch_model  # noqa: PLC0415 -- heavy, and only where a hub is asked

    with incoming(bench.installation) as folder:
        origin = fetch_model(source, revision, folder)
        return register_model(*parts, folder, dtype=dtype, source=origin)


def _described(model: Any) -> dict[str, Any]:
    """What is said of a model, as the ledger's event or the catalogue's row has it."""
    digest = model.manifest_digest
    return {
        "name": model.name,
        "architecture": model.architecture,
        "parameters": model.parameters,
        "vocabulary_size": model.vocabulary_size,
        "max_positions": model.max_positions,
        "dtype": model.dtype,
        "source": model.source,
        "has_chat_template": model.has_chat_template,
        "manifest_digest": digest if isinstance(digest, str) else digest.hex(),
    }


@app.command("list")
def list_models(data_dir: DataDir, *, as_json: AsJson = False) -> None:
    """List the catalogue."""
    from api.present import iso  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench, views_of(bench) as views:
        rows = [{**_described(row), "registered_at": iso(row.registered_at)} for row in views.models()]
    columns = ("name", "architecture", "parameters", "dtype", "max_positions", "source", "registered_at")
    table("Models", rows, columns, as_json=as_json)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    data_dir: DataDir,
    *,
    force: Annotated[bool, typer.Option("--force", help="Even if open runs stand on it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a model out of the catalogue, and delete its files if no other name has the same."""
    from processors.catalogue import remove_model  # noqa: PLC0415 -- light start
    from processors.errors import ModelInUseError  # noqa: PLC0415

    with workbench(data_dir) as bench:
        if not force:
            with views_of(bench) as views:
                runs = views.open_runs_on(name)
            if runs:
                raise ModelInUseError(f"{runs} open run{'s stand' if runs > 1 else ' stands'} on this model.")
        model = remove_model(bench.installation, bench.submitter, name)
    show({"removed": model.name, "manifest_digest": model.manifest_digest.hex()}, [f"{name} removed"], as_json=as_json)


@app.command()
def verify(
    data_dir: DataDir,
    name: Annotated[str | None, typer.Argument(help="One model; all if left out.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All models.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hash the catalogue's files again and compare them with the ledger: exit code 0 if all are unchanged, else 1."""
    if every and name is not None:
        raise UsageError("One model or all of them?", next_step="Leave the name or --all out.")
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
