"""``tensorguard ledger copy``: a ledger to another place, with every hash kept; it goes on there."""

from __future__ import annotations

import secrets
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tensorguard.errors import UsageError

from api.commands.common import AsJson, DataDir, installation_at, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from producers.engines.port import LogEngine
    from producers.moving import End, Moved, Mover
    from producers.moving.survey import Chain


def copy(
    data_dir: DataDir,
    source: Annotated[str, typer.Option("--from", help="Where the ledger is: a URL as TG_LOG_URL takes it.")],
    destination: Annotated[str, typer.Option("--to", help="Where it goes: another such URL, e.g. kafka://host:9092.")],
    name: Annotated[
        str | None, typer.Option("--name", help="What it is called there; on every chain, for all who read them.")
    ] = None,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Only copy: the source goes on, and a server may run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move the ledger: copy it, end it at the source, go on at the destination. Stop the server first.

    If it is broken off, the same command takes it up.
    """
    if keep and name is not None:
        raise UsageError("A copy has no name of its own.", next_step="Leave --keep or --name out.")
    with _mover(data_dir, source, destination, locked=not keep) as mover:
        if keep:
            _show_copy(mover.copy(), as_json=as_json)
        else:
            moved = mover.move(name if name is not None else _fresh_name(destination))
            _show_move(moved, destination, as_json=as_json)


def _fresh_name(url: str) -> str:
    """A name that says what kind of place it is, and not which."""
    return f"{url.partition(':')[0]}-{secrets.token_hex(4)}"


@contextmanager
def _mover(data_dir: Path, source: str, destination: str, *, locked: bool) -> Iterator[Mover]:
    from api.signing import sign_at  # noqa: PLC0415 -- light start
    from producers.moving import Mover  # noqa: PLC0415

    _check_places(source, destination)
    with (
        installation_at(data_dir) as installation,
        closing(_end(data_dir, source)) as here,
        closing(_end(data_dir, destination)) as there,
    ):

        def sign(engine: LogEngine) -> None:
            sign_at(data_dir, source if engine is here.engine else destination, locked=locked)

        yield Mover(installation, here, there, sign)


def _check_places(source: str, destination: str) -> None:
    from producers.settings.values import SQLITE, path_of  # noqa: PLC0415 -- light start

    paths = [path_of(url).resolve() if url.startswith(SQLITE) else url for url in (source, destination)]
    if paths[0] == paths[1]:
        raise UsageError("--from and --to are one place.")
    if source.startswith(SQLITE) and not path_of(source).is_file():
        raise UsageError(f"There is no ledger at {source}.")


def _end(data_dir: Path, url: str) -> End:
    from producers.engines.opening import open_engine  # noqa: PLC0415 -- light start
    from producers.moving import End  # noqa: PLC0415
    from producers.settings import read  # noqa: PLC0415

    settings = read(data_dir, {"log_url": url}).settings
    partitions = None if settings.embedded else settings.intake_partitions
    return End(lambda partition: open_engine(settings, data_dir, partition=partition), partitions)


def _show_copy(chains: Sequence[Chain], *, as_json: bool) -> None:
    lines = [*_lines(chains), "copied; the ledger goes on where it was"]
    show({"moved_to": None, "chains": _rows(chains)}, lines, as_json=as_json)


def _show_move(moved: Moved, url: str, *, as_json: bool) -> None:
    value = {
        "moved_to": moved.ledger,
        "url": url,
        "chains": _rows(moved.chains),
        "carried_commands": moved.carried,
        "dead_letters_left": moved.left,
    }
    lines = [*_lines(moved.chains), f"moved: the ledger goes on as {moved.ledger!r}; set TG_LOG_URL={url}"]
    if moved.left:
        lines.append(f"{moved.left} dead letters stayed at the source, which decides nothing any more")
    show(value, lines, as_json=as_json)


def _rows(chains: Sequence[Chain]) -> list[dict[str, Any]]:
    return [
        {"chain": chain.name, "records": chain.size, "signed": chain.signed, "root": chain.root.hex()}
        for chain in chains
    ]


def _lines(chains: Sequence[Chain]) -> list[str]:
    return [f"{chain.name:<24} {chain.size:>9} records   root {chain.root.hex()[:16]}…" for chain in chains]
