"""The root of the ``tensorguard`` command.

``audit`` and ``pkg`` are built in and need nothing but this wheel. Everything else (``server``, ``ledger``, ``agent``,
…) comes from whatever is installed beside it, through the entry-point group ``tensorguard.commands``: each entry is a
function ``register(app)``. Plugins are loaded only when a command that is not built in is asked for.

Exit codes: 0 done, 1 failed (or not verified), 2 wrong usage.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Annotated

import typer

from tensorguard.cli import audit, pkg
from tensorguard.cli.output import print_error, print_line
from tensorguard.errors import TensorGuardError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COMMANDS_GROUP = "tensorguard.commands"
BUILT_IN = {"audit", "pkg"}
_HELP = "TensorGuardFlow: private fine-tuning, packaging and deployment of language models on one verified ledger."


def build_app(plugins: Iterable[EntryPoint] = ()) -> typer.Typer:
    """The command line with these plugins; one that cannot be loaded is named on stderr and left out."""
    app = typer.Typer(
        name="tensorguard",
        help=_HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    app.add_typer(audit.app, name="audit")
    pkg.register(app)
    for plugin in plugins:
        try:
            plugin.load()(app)
        except (ImportError, AttributeError) as error:
            sys.stderr.write(f"warning: the commands of {plugin.name!r} are not available ({error}).\n")
    return app


def _print_version(wanted: bool) -> None:  # noqa: FBT001 -- how typer calls back
    if wanted:
        print_line(version("tensorguard"))
        raise typer.Exit


def _root(
    *,
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Options of the whole command line; each acts by its callback."""


def run(arguments: Sequence[str]) -> int:
    """Run a command line; its exit code."""
    plugins = () if set(arguments[:1]) & {*BUILT_IN, "--version"} else entry_points(group=COMMANDS_GROUP)
    try:
        build_app(plugins)(list(arguments), prog_name="tensorguard", standalone_mode=True)
    except TensorGuardError as error:
        print_error(error, as_json="--json" in arguments)
        return error.exit_code
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def main() -> None:
    """The console script."""
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
