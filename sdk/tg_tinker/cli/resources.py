"""What the server keeps, as commands: runs, futures, checkpoints, packages, the audit log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tg_tinker.cli.output import show, show_all
from tg_tinker.cli.session import AsJson, Limit, Run, Timeout, connect, read_fields, settings, training
from tg_tinker.errors import from_problem
from tg_tinker.types import TrainingConfig

clients = typer.Typer(no_args_is_help=True, help="Training runs.")
futures = typer.Typer(no_args_is_help=True, help="Operations that were accepted.")
artifacts = typer.Typer(no_args_is_help=True, help="Checkpoints.")
packages = typer.Typer(no_args_is_help=True, help="Secure model packages.")

FutureId = Annotated[str, typer.Argument(metavar="FUTURE_ID")]
ArtifactId = Annotated[str, typer.Argument(metavar="ARTIFACT_ID")]
PackageId = Annotated[str, typer.Argument(metavar="PACKAGE_ID")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(clients, name="clients")
    app.add_typer(futures, name="futures")
    app.add_typer(artifacts, name="artifacts")
    app.add_typer(packages, name="packages")
    app.command("models")(list_models)
    app.command("audit-logs")(audit_logs)


@clients.command("create")
def create_client(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="A name of the server's catalogue.")] = None,
    *,
    config: Annotated[
        Path | None, typer.Option(help="JSON file with the fields of TrainingConfig; - is stdin. MODEL goes over it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a training run."""
    fields = read_fields(config) if config else {}
    if model:
        fields = {**fields, "model_ref": model}
    with settings("training configuration"):
        asked = TrainingConfig.model_validate(fields)
    with connect(context) as client:
        show(client.create_training_client(asked).info, as_json=as_json)


@clients.command("get")
def get_client(context: typer.Context, run: Run, *, as_json: AsJson = False) -> None:
    """A run as it stands."""
    with training(context, run) as client:
        show(client.info, as_json=as_json)


@clients.command("list")
def list_clients(context: typer.Context, *, limit: Limit = None, as_json: AsJson = False) -> None:
    """The tenant's runs, newest first."""
    columns = ("training_client_id", "model_ref", "status", "step", "last_durable_step", "generation", "created_at")
    with connect(context) as client:
        show_all(client.list_training_clients(limit), columns, as_json=as_json)


@clients.command("close")
def close_client(context: typer.Context, run: Run, *, as_json: AsJson = False) -> None:
    """Take no more operations; accepted ones still finish."""
    with training(context, run) as client:
        show(client.close(), as_json=as_json)


@futures.command("get")
def get_future(context: typer.Context, future_id: FutureId, *, as_json: AsJson = False) -> None:
    """What became of an operation so far."""
    with connect(context) as client:
        handle = client.get_future(future_id)
        described = {
            "future_id": handle.future_id,
            "kind": handle.kind,
            "training_client_id": handle.training_client_id,
        }
        show({**described, "status": handle.status()}, as_json=as_json)


@futures.command("result")
def get_result(
    context: typer.Context, future_id: FutureId, *, timeout: Timeout = None, as_json: AsJson = False
) -> None:
    """Wait for the result of an operation."""
    with connect(context) as client:
        show(client.get_future(future_id).result(timeout), as_json=as_json)


@futures.command("cancel")
def cancel_future(context: typer.Context, future_id: FutureId, *, as_json: AsJson = False) -> None:
    """Ask that an operation be dropped if it has not started."""
    with connect(context) as client:
        show({"future_id": future_id, "cancellation_requested": client.get_future(future_id).cancel()}, as_json=as_json)


@artifacts.command("list")
def list_artifacts(
    context: typer.Context,
    *,
    run: Annotated[str | None, typer.Option(help="Of this run only.")] = None,
    limit: Limit = None,
    as_json: AsJson = False,
) -> None:
    """The tenant's checkpoints, newest first."""
    columns = ("artifact_id", "name", "automatic", "step", "size_bytes", "training_client_id", "created_at")
    with connect(context) as client:
        show_all(client.list_artifacts(run, limit), columns, as_json=as_json)


@artifacts.command("show")
def show_artifact(context: typer.Context, artifact_id: ArtifactId, *, as_json: AsJson = False) -> None:
    """A checkpoint."""
    with connect(context) as client:
        show(client.get_artifact(artifact_id), as_json=as_json)


@artifacts.command("delete")
def delete_artifact(context: typer.Context, artifact_id: ArtifactId, *, as_json: AsJson = False) -> None:
    """Have a checkpoint deleted and its key destroyed."""
    with connect(context) as client:
        show(client.delete_artifact(artifact_id), as_json=as_json)


@packages.command("create")
def create_package(
    context: typer.Context,
    artifact_id: Annotated[str, typer.Argument(help="The checkpoint to package.")],
    recipients: Annotated[list[str], typer.Argument(metavar="DEVICE...", help="Key ids of the devices.")],
    *,
    release_counter: Annotated[int, typer.Option(min=0, help="A device refuses less than it has seen.")] = 0,
    expires_at: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z"], help="After it a device refuses the package.")
    ] = None,
    timeout: Timeout = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the pending package at once.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a `.tgsp` of a checkpoint that these devices can open."""
    with connect(context) as client:
        package = client.create_package(artifact_id, recipients, release_counter=release_counter, expires_at=expires_at)
        if not no_wait:
            package = client.wait_for_package(package.package_id, timeout)
            if package.status == "failed":
                raise from_problem(package.error or {"detail": "The package could not be made."})
        show(package, as_json=as_json)


@packages.command("get")
def get_package(context: typer.Context, package_id: PackageId, *, as_json: AsJson = False) -> None:
    """A package as it stands."""
    with connect(context) as client:
        show(client.get_package(package_id), as_json=as_json)


@packages.command("download")
def download_package(
    context: typer.Context,
    package_id: PackageId,
    out: Annotated[Path, typer.Argument(help="File to write the package to; its receipt goes beside it.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Fetch a signed package with its ledger receipt (OUT and OUT.tlog-proof)."""
    receipt = out.with_name(out.name + ".tlog-proof")
    with connect(context) as client:
        client.download_package(package_id, out)
        client.download_receipt(package_id, receipt)
    show({"package": str(out), "receipt": str(receipt)}, as_json=as_json)


def list_models(context: typer.Context, *, as_json: AsJson = False) -> None:
    """The catalogue: what a run may start from."""
    columns = ("name", "architecture", "dtype", "parameters", "max_positions", "has_chat_template")
    with connect(context) as client:
        show_all(client.list_models(), columns, as_json=as_json)


def audit_logs(
    context: typer.Context,
    *,
    stream: Annotated[str | None, typer.Option(help="Of one aggregate, such as run/TRAINING_CLIENT_ID.")] = None,
    event: Annotated[str | None, typer.Option(help="Of one kind, such as StepApplied.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Records of the tenant's chain, oldest first."""
    with connect(context) as client:
        entries = client.get_audit_logs(limit=limit, stream=stream, event=event)
    show_all(entries, ("seq", "recorded_at", "event", "stream", "leaf_hash"), as_json=as_json)
