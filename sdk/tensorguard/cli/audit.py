"""``tensorguard audit``: check an exported ledger or a receipt, offline, trusting a trust root alone."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tensorguard.cli.output import print_json, print_line
from tensorguard.errors import TensorGuardError, UsageError
from tensorguard.ledger import trust
from tensorguard.ledger.export import TRUST_ROOT
from tensorguard.ledger.proof import verify_receipt
from tensorguard.ledger.verify import Options, Replay, Report, verify_export

if TYPE_CHECKING:
    from tensorguard.ledger.proof import Receipt

AUDITORS_GROUP = "tensorguard.auditors"
DECISIONS = "decisions"
MAX_FILE_BYTES = 1 << 20
_MICROSECONDS = 1_000_000

app = typer.Typer(help="Check an exported ledger or a receipt, offline.", no_args_is_help=True)

TrustRootOption = Annotated[
    Path | None,
    typer.Option("--trust-root", help="A trust root that you got another way: the ledger must be of its authority."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class AuditorMissingError(TensorGuardError):
    """Re-running decisions needs the platform's own code."""

    code = "auditor_missing"
    exit_code = 2
    next_step = (
        "Install the platform's checkout (`make setup` there) and run its `tensorguard`, or leave --decisions out."
    )


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="The export's directory, of records or of tiles.")],
    *,
    trust_root: TrustRootOption = None,
    since: Annotated[
        list[Path] | None,
        typer.Option("--since", help="A checkpoint that you saw earlier: the export must extend it. May be repeated."),
    ] = None,
    decisions: Annotated[bool, typer.Option("--decisions", help="Re-run every decision, too.")] = False,
    require_signed: Annotated[
        bool, typer.Option("--require-signed", help="Fail when records stand behind the last checkpoint.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Only bytes, chain, tree and checkpoints: much faster.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Verify an export: exit code 0 verified, 1 not, 2 wrong usage."""
    if raw and decisions:
        raise UsageError("--raw and --decisions exclude each other.", next_step="Leave one of them out.")
    if not os.path.isdir(path):  # noqa: PTH112 -- Path.is_dir raises where a folder may not be entered
        raise UsageError(f"{path} is no directory.", next_step="Name an export's directory.")
    options = Options(
        pinned=_read_trust_root(trust_root) if trust_root else None,
        since=tuple(_read(each) for each in since or ()),
        require_signed=require_signed,
        decode=not raw,
        replay=_load_replay() if decisions else None,
    )
    report = verify_export(path, options)
    if as_json:
        print_json({**report.to_dict(), "decisions_replayed": decisions})
    else:
        _print_report(report)
    raise typer.Exit(0 if report.verified else 1)


@app.command()
def receipt(
    file: Annotated[Path, typer.Argument(help="The receipt: a tlog-proof file.")],
    *,
    record: Annotated[Path | None, typer.Option("--record", help="The record, when the receipt has none.")] = None,
    trust_root: TrustRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt: exit code 0 proven, 1 not, 2 wrong usage. The trust root may lie beside the receipt."""
    root_path = trust_root or file.parent / TRUST_ROOT
    if not os.path.exists(root_path):  # noqa: PTH110 -- as above
        raise UsageError("A receipt is checked against a trust root.", next_step="Name one with --trust-root FILE.")
    root = _read_trust_root(root_path)
    proven = verify_receipt(_read(file), root, _read(record) if record else None)
    value = {**_describe(proven), "authority_key": root.authority_key.hex()}
    if as_json:
        print_json(value)
        return
    for name, shown in value.items():
        # What a record says may hold what a terminal obeys.
        print_line(f"{name:<14} {shown if str(shown).isprintable() else repr(shown)}")


def _load_replay() -> Replay:
    for entry in entry_points(group=AUDITORS_GROUP, name=DECISIONS):
        try:
            return cast("Replay", entry.load())
        except ImportError as error:
            raise AuditorMissingError("The platform's auditor cannot be loaded.") from error
    raise AuditorMissingError("No auditor of decisions is installed.")


def _read_trust_root(path: Path) -> trust.TrustRoot:
    return trust.parse(_read(path))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as source:
            return source.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from error


def _print_report(report: Report) -> None:
    for chain in report.chains:
        unsigned = f", {chain.unsigned} not yet signed" if chain.unsigned else ""
        print_line(f"{chain.chain:<24} {chain.records:>9} records{unsigned}   root {chain.root.hex()[:16]}…")
    for finding in report.all_findings:
        place = finding.chain or "export"
        where = place if finding.seq is None else f"{place} #{finding.seq}"
        print_line(f"  ✗ {where}: {finding.detail} [{finding.code}]")
    how = "pinned" if report.pinned else "as it came with the export; compare it with what the operator publishes"
    print_line(f"authority {report.authority_key.hex()} ({how})")
    print_line("verified" if report.verified else "NOT verified")


def _describe(proven: Receipt) -> dict[str, Any]:
    head = proven.checkpoint.checkpoint
    value: dict[str, Any] = {
        "proven": True,
        "chain": proven.chain,
        "seq": proven.seq,
        "origin": head.origin,
        "tree_size": head.size,
        "cosigned_at": _time(proven.checkpoint.timestamp),
    }
    if proven.decoded is not None:
        meta = proven.decoded.meta
        value |= {
            "event": proven.decoded.event,
            "event_id": meta.event_id.hex(),
            "stream": meta.stream,
            "recorded_at": _time(meta.recorded_at / _MICROSECONDS),
            "data": _plain(proven.decoded.body),
        }
    return value


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds after 1970"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
