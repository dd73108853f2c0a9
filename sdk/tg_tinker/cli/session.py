"""What every command needs: where the server is, how long to wait, and how to print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from tensorguard.errors import UsageError

from tg_tinker.cli.output import show
from tg_tinker.futures import FutureHandle
from tg_tinker.service_client import API_KEY_VARIABLE, BASE_URL_VARIABLE, ServiceClient
from tg_tinker.training_client import TrainingClient

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Run = Annotated[str, typer.Argument(metavar="TRAINING_CLIENT_ID", help="The run, as `clients create` printed it.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds to wait for the result; without it, as long as it takes.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Print the future at once; `futures result ID` waits later.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many.")]


@dataclass(frozen=True)
class Server:
    """Where the commands of this call go; the API key comes from a file or the environment, never from an argument."""

    base_url: str | None
    api_key_file: Path | None
    ca: Path | None


@contextmanager
def connect(context: typer.Context) -> Iterator[ServiceClient]:
    """A client of the server that the options or the environment name."""
    server: Server = context.obj
    key = _read(server.api_key_file).strip() if server.api_key_file else None
    with ServiceClient(server.base_url, key, ca=server.ca) as client:
        yield client


@contextmanager
def training(context: typer.Context, training_client_id: str) -> Iterator[TrainingClient]:
    """A run of that server."""
    with connect(context) as client:
        yield client.get_training_client(training_client_id)


def finish(handle: FutureHandle[Any], timeout: float | None, *, no_wait: bool, as_json: bool) -> None:
    """Print the result of an operation, or at once the future that stands for it."""
    if no_wait:
        future = {"future_id": handle.future_id, "kind": handle.kind, "training_client_id": handle.training_client_id}
        commitment = handle.commitment.model_dump() if handle.commitment else None
        show({**future, "commitment": commitment}, as_json=as_json)
    else:
        show(handle.result(timeout), as_json=as_json)


def read_json(path: Path) -> Any:
    """The JSON value in a file; ``-`` is standard input.

    Raises:
        UsageError: there is no such file, or no JSON in it.
    """
    text = typer.get_text_stream("stdin").read() if str(path) == "-" else _read(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON.", next_step="Write one JSON object into the file.") from error


def read_fields(path: Path) -> dict[str, Any]:
    """The JSON object in a file (errors as for :func:`read_json`)."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object.", next_step="Write one JSON object into the file.")
    return value


@contextmanager
def settings(kind: str) -> Iterator[None]:
    """While settings are made of what was typed: what does not fit is wrong usage, told without its value.

    Raises:
        UsageError: a field does not fit.
    """
    try:
        yield
    except ValidationError as error:
        listed = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise UsageError(f"That is no {kind}: {listed}.", next_step="Correct these fields.") from None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read.", next_step="Check the path, and that it is UTF-8 text.") from error


__all__ = [
    "API_KEY_VARIABLE",
    "BASE_URL_VARIABLE",
    "AsJson",
    "Limit",
    "NoWait",
    "Run",
    "Server",
    "Timeout",
    "connect",
    "finish",
    "read_fields",
    "read_json",
    "settings",
    "training",
]
