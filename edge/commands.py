"""``tensorguard device`` and ``tensorguard agent``: the command line of a device."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from tensorguard.cli.output import print_json, print_line
from tensorguard.crypto.memory import harden_process
from tensorguard.errors import UsageError

from edge.identity import Identity

if TYPE_CHECKING:
    from edge.agent import Outcome
    from edge.fetch import Fetcher

_device = typer.Typer(help="This device's identity.", no_args_is_help=True)

IdentityOption = Annotated[Path, typer.Option("--identity", help="The folder of this device's keys.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def register(app: typer.Typer) -> None:
    """Add ``device`` and ``agent`` to the command line."""
    app.add_typer(_device, name="device")
    app.command("agent")(agent)


@_device.command()
def keygen(identity: IdentityOption, *, as_json: JsonOption = False) -> None:
    """Make this device's keys, and print the public ones for its enrolment."""
    _print_identity(Identity.create(identity), as_json=as_json)


@_device.command()
def show(identity: IdentityOption, *, as_json: JsonOption = False) -> None:
    """Print this device's public keys again."""
    _print_identity(Identity.load(identity), as_json=as_json)


def agent(
    *,
    package: Annotated[str, typer.Option("--package", help="The package: a file or an http(s) address.")],
    receipt: Annotated[str, typer.Option("--receipt", help="Its ledger receipt: a file or an http(s) address.")],
    identity: IdentityOption,
    trust_root: Annotated[Path, typer.Option("--trust-root", help="The trust root that this device believes in.")],
    model: Annotated[Path, typer.Option("--model", help="The folder of the base model.")],
    prompt: Annotated[str, typer.Option("--prompt", help="What to continue.")],
    once: Annotated[bool, typer.Option("--once", help="Open one package, sample once, wipe, end.")] = False,
    report: Annotated[str | None, typer.Option("--report", help="The server to report the opening to.")] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="TG_TINKER_API_KEY", help="Sent to the server of --report (or --package)."),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="The longest continuation, in tokens.")] = 64,
    as_json: JsonOption = False,
) -> None:
    """Verify a package, decrypt it into memory, sample, wipe. Exit code 0 done, 1 refused or failed, 2 usage."""
    if not once:
        raise UsageError("The agent runs once only.", next_step="Add --once.")
    harden_process()
    from tensorguard.ledger import trust  # noqa: PLC0415 (a command that is not run loads nothing)

    from edge.agent import Agent, Task  # noqa: PLC0415

    fetcher = _fetcher(api_key, report or package)
    device = Agent(identity, Identity.load(identity), trust.parse(fetcher.small(str(trust_root))), fetcher, _now)
    outcome = device.run(Task(package, receipt, model, prompt, max_tokens, report))
    if as_json:
        print_json(outcome.to_dict())
    else:
        _print_outcome(outcome)
    if outcome.problem:
        raise outcome.problem
    raise typer.Exit(0 if outcome.complete else 1)


def _fetcher(api_key: str | None, place: str) -> Fetcher:
    from edge.fetch import Fetcher, is_address, origin_of  # noqa: PLC0415

    return Fetcher(api_key, origin_of(place) if is_address(place) else None)


def _now() -> int:
    return time.time_ns() // 1_000


def _print_identity(identity: Identity, *, as_json: bool) -> None:
    value = {
        "key_id": identity.key_id.hex(),
        "public_key": identity.public_key.hex(),
        "hpke_public_key": identity.hpke_key.public_key.hex(),
    }
    if as_json:
        print_json(value)
        return
    for name, shown in value.items():
        print_line(f"{name:<16} {shown}")


def _print_outcome(outcome: Outcome) -> None:
    manifest = outcome.manifest
    print_line(f"package   {outcome.package_id.hex()}")
    print_line(f"          {manifest.line} release {manifest.release_counter}, step {outcome.step}")
    print_line(f"ledger    chain {manifest.tenant}, record {outcome.ledger_seq}")
    print_line(f"weights   {manifest.weights.plaintext_size} bytes, {'locked' if outcome.memory_locked else 'no swap'}")
    print_line(f"sample    {outcome.completion.prompt}{outcome.completion.completion}")
    if outcome.reply is not None:
        print_line(f"report    {outcome.reply.get('outcome')} {outcome.reply.get('code') or ''}".rstrip())
