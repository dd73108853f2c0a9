"""``tensorguard ledger status``: where the ledger stands, from a data directory with or without a server."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tensorguard.cli.output import print_json, print_line

from api.commands.common import AsJson, DataDir, table, workbench

if TYPE_CHECKING:
    from api.observability.ledger import LedgerStanding, Position

NOT_RUNNING, NOT_FOLDED = "not running here", "nothing folded"


def status(data_dir: DataDir, *, as_json: AsJson = False) -> None:
    """Heads, what of them is signed, who reads how far, epochs, what waits and what was set aside.

    Nothing is changed. What does not run has no lag, and is said not to run.
    """
    from api.observability.ledger import look  # noqa: PLC0415 -- light start

    with workbench(data_dir) as bench:
        standing = look(bench.installation, bench.engine)
    if as_json:
        print_json(_document(standing))
    else:
        _print(standing)


def _document(standing: LedgerStanding) -> dict[str, Any]:
    return {
        "epochs": [asdict(each) for each in standing.epochs],
        "sequencer_running": standing.sequencer_runs,
        "intake_waiting": standing.waiting,
        "dead_letters": standing.dead_letters,
        "chains": [asdict(each) | {"lag": standing.lag_of(each.chain)} for each in standing.chains],
        "readers": [_reader(each) for each in standing.positions],
    }


def _reader(position: Position) -> dict[str, Any]:
    from api.observability.ledger import SIGNER, VIEWS  # noqa: PLC0415 -- light start
    from api.present import iso  # noqa: PLC0415

    outlives = position.reader in (SIGNER, VIEWS)
    return {
        "reader": position.reader,
        "lag": position.total,
        "lag_most": None if position.lag is None else max(position.lag.values(), default=0),
        "running": None if outlives else position.process is not None,
        "process": position.process,
        "noted_at": None if position.noted_at is None else iso(position.noted_at),
    }


def _print(standing: LedgerStanding) -> None:
    runs = {True: "runs", False: NOT_RUNNING, None: "run elsewhere, if at all"}[standing.sequencer_runs]
    print_line(f"sequencer     {runs}, {standing.waiting} entries wait in the intake")
    for each in standing.epochs:
        print_line(
            f"epoch         {each.epoch} of partition {each.partition}, {each.written_by or 'nothing written yet'}"
        )
    print_line(f"dead letters  {standing.dead_letters}")
    for ledger in sorted({each.moved_to for each in standing.chains if each.moved_to}):
        print_line(f"moved to      {ledger}")
    chains = [asdict(each) | {"behind": _behind(standing.lag_of(each.chain))} for each in standing.chains]
    table("Chains", chains, ("chain", "size", "signed_size", "epoch", "written_by", "behind"), as_json=False)
    rows = [_reader(each) | {"process": _process(each)} for each in standing.positions]
    table("Readers", rows, ("reader", "lag", "lag_most", "process"), as_json=False)


def _behind(lag: dict[str, int | None]) -> str:
    """Who has not read a chain to its end."""
    return ", ".join(f"{reader} {records}" for reader, records in lag.items() if records)


def _process(position: Position) -> str | None:
    from api.observability.ledger import PROCESSORS, VIEWS  # noqa: PLC0415 -- light start

    if position.reader == VIEWS and position.lag is None:
        return NOT_FOLDED
    return position.process or (NOT_RUNNING if position.reader in PROCESSORS else None)
