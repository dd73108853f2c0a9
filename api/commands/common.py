"""What the commands share: options, output, and an installation that works with or without a running server."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tensorguard.cli.output import print_json, print_line
from tensorguard.errors import TensorGuardError, UsageError

if TYPE_CHECKING:
    from producers.engines.port import Reply
    from producers.installation import Installation
    from producers.submitter import Submitter
    from projections.queries import Views
    from schemas.base import Command

DataDir = Annotated[Path, typer.Option("--data-dir", envvar="TG_DATA_DIR", help="The installation's folder.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose it is: lower-case letters, digits, dashes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


PLATFORM = "platform"


class CommandError(TensorGuardError):
    """What a command was asked for cannot be done or is not there."""

    code = "not_found"
    next_step = "Check the name with the list command."


class Workbench:
    """An installation with its ledger and its durable intake: commands are decided here, or by the server that runs."""

    def __init__(self, installation: Installation, submitter: Submitter) -> None:
        self.installation = installation
        self.submitter = submitter
        self.engine = installation.engine()

    def decide(self, chain: str, command: Command) -> Reply:
        """Have a command of the authority decided.

        Raises:
            RejectedError: it was rejected.
            NoDecisionError: a server holds the ledger and has not decided in time.
        """
        import secrets  # noqa: PLC0415 -- light start

        from api.errors import next_step_of  # noqa: PLC0415
        from producers.deciders.registry import stream_of  # noqa: PLC0415
        from producers.identities import make_envelope  # noqa: PLC0415

        envelope = make_envelope(
            command,
            chain=chain,
            stream=stream_of(command),
            command_id=secrets.token_bytes(16),
            now=self.installation.clock(),
        )
        reply = self.submitter.submit_and_wait(self.installation.producer("authority"), envelope)
        try:
            reply.raise_for_outcome()
        except TensorGuardError as error:
            error.next_step = error.next_step or next_step_of(error.code)
            raise
        return reply


@contextmanager
def installation_at(data_dir: Path, *, create: bool = False) -> Iterator[Installation]:
    """The installation of a data directory; with ``create`` it is made if need be. Its ledger is not opened.

    Raises:
        UsageError: there is none, and it is not to be created.
    """
    from contextlib import closing  # noqa: PLC0415 -- light start

    from producers import logs  # noqa: PLC0415
    from producers.installation import Installation  # noqa: PLC0415

    logs.configure(logging.WARNING)
    if not create and not (data_dir / "installation.json").exists():
        raise UsageError(
            f"{data_dir} is no installation.", next_step="Name a data dir that a server or `keys issue` made."
        )
    with closing(Installation.open(data_dir)) as installation:
        yield installation


@contextmanager
def workbench(data_dir: Path, *, create: bool = False) -> Iterator[Workbench]:
    """The installation of a data directory; with ``create`` it is made if need be, and its platform chain opened.

    Raises:
        UsageError: there is none, and it is not to be created.
    """
    from contextlib import closing  # noqa: PLC0415 -- light start

    from producers.submitter import Submitter  # noqa: PLC0415

    with (
        installation_at(data_dir, create=create) as installation,
        closing(Submitter(installation, installation.engine())) as submitter,
    ):
        if create:
            submitter.ensure_chain(PLATFORM)
        yield Workbench(installation, submitter)


@contextmanager
def views_of(bench: Workbench) -> Iterator[Views]:
    """The read models, up to date: the server's if one runs, else folded here first."""
    from projections.database import open_database, sqlite_url  # noqa: PLC0415 -- light start
    from projections.errors import ViewsInUseError  # noqa: PLC0415
    from projections.projector import Projector  # noqa: PLC0415
    from projections.queries import Views  # noqa: PLC0415
    from projections.rebuild import keeping_views  # noqa: PLC0415

    data_dir = bench.installation.data_dir
    database = open_database(sqlite_url(bench.installation.views_path))
    try:
        try:
            with keeping_views(data_dir):
                Projector(bench.engine, database).catch_up()
        except ViewsInUseError:
            pass
        yield Views(database)
    finally:
        database.dispose()


def show(value: Any, lines: Sequence[str], *, as_json: bool) -> None:
    """Print a value for programs, or its lines for people."""
    if as_json:
        print_json(value)
        return
    for line in lines:
        print_line(line)


def table(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print rows for programs as they are, or some of their columns for people."""
    if as_json:
        print_json(rows)
        return
    from rich.console import Console  # noqa: PLC0415 -- light start
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    drawn = Table(*columns, title=title, title_justify="left")
    for row in rows:
        drawn.add_row(*("" if row[column] is None else escape(str(row[column])) for column in columns))
    Console().print(drawn)
