"""The root of the ``tg-tinker`` command.

The server and the key come from ``TG_TINKER_BASE_URL`` and ``TG_TINKER_API_KEY``. Every error has an exit code, which
:data:`EPILOG` lists.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from tensorguard.errors import TensorGuardError, UsageError

from tg_tinker.cli import export, operations, resources, sampling, train
from tg_tinker.cli.output import complain
from tg_tinker.cli.session import BASE_URL_VARIABLE, Server

EPILOG = (
    "Exit codes: 0 done, 1 the operation failed, 2 wrong usage or request, 3 the key is refused, 4 no such thing, "
    "5 it does not fit the run's state, 6 rolled back, 7 try again later, 8 the time to wait is over, 130 interrupted."
)


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="tg-tinker",
        help="Fine-tune private language models on a TensorGuardFlow server.",
        epilog=EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    train.register(app)
    operations.register(app)
    sampling.register(app)
    resources.register(app)
    export.register(app)
    return app


def _root(
    context: typer.Context,
    *,
    base_url: Annotated[
        str | None, typer.Option(envvar=BASE_URL_VARIABLE, help="The server, such as http://127.0.0.1:8080.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the API key, instead of the variable TG_TINKER_API_KEY.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="PEM file of the authority that certifies the server, instead of SSL_CERT_FILE.")
    ] = None,
) -> None:
    context.obj = Server(base_url, api_key_file, ca)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; its exit code."""
    try:
        build_app()(list(arguments), prog_name="tg-tinker", standalone_mode=True)
    except TensorGuardError as error:
        complain(error, as_json="--json" in arguments)
        return error.exit_code
    except OSError as error:
        complain(UsageError(f"A file cannot be written ({error.strerror})."), as_json="--json" in arguments)
        return UsageError.exit_code
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def main() -> None:
    """The console script."""
    raise SystemExit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
