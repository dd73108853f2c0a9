"""``tensorguard ledger``: heads, records, exports and receipts, from a data directory with or without a server."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tensorguard.errors import UsageError

from api.commands import dead_letters, ledger_status, moving
from api.commands.common import PLATFORM, AsJson, CommandError, DataDir, Workbench, show, table, workbench

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tensorguard.ledger.export import ExportWriter
    from tensorguard.ledger.tiles_writer import TilesWriter

    from producers.feed import Recorded

NAME = "ledger"
SIGNER_SECONDS = 30.0
app = typer.Typer(help="Look at the ledger, export it, prove what is on it.", no_args_is_help=True)
app.add_typer(dead_letters.app, name=dead_letters.NAME)
app.command()(ledger_status.status)
app.command(name="copy")(moving.copy)
Chain = Annotated[str | None, typer.Option("--chain", help="One chain; all if left out.")]


@app.command()
def head(data_dir: DataDir, chain: Chain = None, *, as_json: AsJson = False) -> None:
    """Each chain's size, and what of it is signed."""
    with workbench(data_dir) as bench:
        rows = [_head(bench, name) for name in _chains(bench, chain)]
    table("Ledger", rows, ("chain", "size", "signed_size", "root"), as_json=as_json)


def _head(bench: Workbench, chain: str) -> dict[str, Any]:
    from tensorguard.ledger.checkpoint import Checkpoint  # noqa: PLC0415 -- light start
    from tensorguard.ledger.note import Note  # noqa: PLC0415

    note = bench.engine.checkpoint(chain)
    signed = Checkpoint.from_text(Note.from_bytes(note).text) if note else None
    return {
        "chain": chain,
        "size": bench.engine.size(chain),
        "signed_size": signed.size if signed else 0,
        "root": signed.root.hex() if signed else None,
        "origin": signed.origin if signed else None,
    }


@app.command(name="show")
def show_records(
    data_dir: DataDir,
    chain: Annotated[str, typer.Option("--chain", help="Whose records.")] = PLATFORM,
    start: Annotated[int, typer.Option("--from", min=0, max=1 << 62, help="The first record.")] = 0,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """Records of a chain, decoded."""
    with workbench(data_dir) as bench:
        _chains(bench, chain)
        rows = [_row(at) for at in _records(bench, chain, start, limit)]
    table(chain, rows, ("seq", "recorded_at", "event", "stream", "event_id"), as_json=as_json)


def _records(bench: Workbench, chain: str, start: int, limit: int) -> Iterator[Recorded]:
    from producers.feed import Feed  # noqa: PLC0415 -- light start

    feed = Feed(bench.engine, {chain: start}, lambda name: name == chain)
    while limit > 0 and (found := feed.poll(min(limit, 512))):
        yield from found
        limit -= len(found)


def _row(at: Recorded) -> dict[str, Any]:
    from tensorguard.ledger.merkle import leaf_hash  # noqa: PLC0415 -- light start

    from api.present import iso  # noqa: PLC0415
    from projections.projector import json_safe  # noqa: PLC0415
    from schemas.codec import to_dict  # noqa: PLC0415

    return {
        "chain": at.chain,
        "seq": at.seq,
        "event": type(at.event).__name__,
        "event_id": at.meta.event_id.hex(),
        "stream": at.meta.stream,
        "stream_seq": at.meta.stream_seq,
        "recorded_at": iso(at.meta.recorded_at),
        "cause": at.meta.cause.hex() if at.meta.cause else None,
        "leaf_hash": leaf_hash(at.data).hex(),
        "data": json_safe(to_dict(at.event)),
    }


class Layout(StrEnum):
    """How an export lies on the disk."""

    RECORDS = "records"
    TILES = "tiles"


@app.command()
def export(
    data_dir: DataDir,
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder; for tiles also one that holds them.")],
    chain: Annotated[
        list[str] | None,
        typer.Option("--chain", help="May be repeated; all if left out. `platform` is always part of it."),
    ] = None,
    layout: Annotated[
        Layout,
        typer.Option("--format", help="All records with their checkpoint, or a C2SP tlog-tiles log of what is signed."),
    ] = Layout.RECORDS,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the ledger out for an auditor: records, checkpoints, trust root."""
    with workbench(data_dir) as bench:
        bench.submitter.ensure_chain(PLATFORM)
        chosen = [name for each in chain for name in _chains(bench, each)] if chain else _chains(bench, None)
        _sign_all(bench)
        write = _export_tiles if layout is Layout.TILES else _export_records
        rows = write(bench, out, sorted({PLATFORM, *chosen}))
    table(f"Exported to {out}", rows, tuple(rows[0]), as_json=as_json)


def _export_records(bench: Workbench, out: Path, chains: Sequence[str]) -> list[dict[str, Any]]:
    from tensorguard.ledger.export import ExportWriter  # noqa: PLC0415 -- light start

    writer = ExportWriter(out)
    writer.write_trust_root(bench.installation.trust_root_path.read_bytes())
    return [_export(bench, writer, name) for name in chains]


def _export(bench: Workbench, writer: ExportWriter, chain: str) -> dict[str, Any]:
    """Write one chain: its checkpoint is taken before its records, so that it never covers more than is written."""
    from api.receipts import newest_checkpoint, records, size_of  # noqa: PLC0415 -- light start

    note = newest_checkpoint(bench.engine, chain, SIGNER_SECONDS)
    count = writer.write_chain(chain, records(bench.engine, chain, bench.engine.size(chain)), note)
    return {"chain": chain, "records": count, "signed": size_of(note)}


def _export_tiles(bench: Workbench, out: Path, chains: Sequence[str]) -> list[dict[str, Any]]:
    from tensorguard.ledger.tiles_writer import tiles_writer  # noqa: PLC0415 -- light start

    with tiles_writer(out, bench.installation.trust_root_path.read_bytes()) as writer:
        return [_export_log(bench, writer, name) for name in chains]


def _export_log(bench: Workbench, writer: TilesWriter, chain: str) -> dict[str, Any]:
    """Write one chain as far as it is signed; without a checkpoint there is no log to write."""
    from api.receipts import newest_checkpoint, records  # noqa: PLC0415 -- light start

    note = newest_checkpoint(bench.engine, chain, SIGNER_SECONDS)
    if note is None:
        return {"chain": chain, "records": 0, "added": 0}
    written = writer.write_chain(chain, note, lambda start, stop: records(bench.engine, chain, stop, start))
    return {"chain": chain, "records": written.size, "added": written.added}


@app.command()
def prove(
    event: Annotated[str, typer.Argument(help="An event id in hex, or CHAIN:SEQ.")],
    data_dir: DataDir,
    out: Annotated[Path, typer.Option("--out", help="Where to write the receipt.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Write the receipt of a record: a C2SP tlog-proof that `tensorguard audit receipt` checks offline."""
    from api.receipts import receipt  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench:
        name, seq = _locate(bench, event)
        _sign_all(bench)
        data = receipt(bench.engine, name, seq, SIGNER_SECONDS)
    _write(out, data)
    value = {"chain": name, "seq": seq, "receipt": str(out), "size_bytes": len(data)}
    show(value, [f"{out}: record {seq} of {name}, {len(data)} bytes"], as_json=as_json)


def _locate(bench: Workbench, event: str) -> tuple[str, int]:
    name, colon, position = event.rpartition(":")
    if colon and position.isdecimal():
        return name, int(position)
    from producers.feed import Feed  # noqa: PLC0415 -- light start

    feed = Feed(bench.engine)
    while found := feed.poll():
        for at in found:
            if at.meta.event_id.hex() == event.lower():
                return at.chain, at.seq
    raise CommandError("No record has this event id.", next_step="Look for it with `tensorguard ledger show`.")


def _chains(bench: Workbench, chain: str | None) -> list[str]:
    names = list(bench.engine.chains())
    if chain is None:
        return names
    if chain not in names:
        raise CommandError(f"There is no chain {chain!r}.", next_step="List them with `tensorguard ledger head`.")
    return [chain]


def _sign_all(bench: Workbench) -> None:
    """Let the signer sign what is committed, in its own process, unless the server's signer does so anyway."""
    from api.signing import sign_once  # noqa: PLC0415 -- light start

    sign_once(bench.installation.data_dir)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).") from error
