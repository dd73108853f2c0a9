"""``tensorguard doctor``: whether a server can run here, and what to do where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from tensorguard.cli.output import print_json

from api.commands.common import AsJson, DataDir

if TYPE_CHECKING:
    from api.doctor.findings import Finding

MARKS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


def run(data_dir: DataDir, *, as_json: AsJson = False) -> None:
    """Check machine, disk, clock, port, libraries, settings, keys, ledger and model files; nothing is changed.

    The exit code is 1 if something failed, else 0.
    """
    findings = list(_findings(data_dir))
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        for finding in findings:
            _print(finding)
    raise typer.Exit(1 if any(finding.state == "failed" for finding in findings) else 0)


def _findings(data_dir: Path) -> Iterator[Finding]:
    from api.doctor import installation, machine, software  # noqa: PLC0415 -- light start
    from api.doctor.findings import failed, looked_at, ok, warning  # noqa: PLC0415
    from api.roll_call import server_runs  # noqa: PLC0415
    from producers.clock import system_clock  # noqa: PLC0415
    from producers.settings import SettingsError, read, unknown  # noqa: PLC0415

    try:
        setup = read(data_dir)
    except SettingsError as error:
        yield failed("settings", error.detail, error.next_step)
        return
    for name in unknown():
        yield warning("settings", f"{name} is set, and no setting has that name.", "Correct or unset it.")
    given = sum(source != "default" for source in setup.sources.values())
    yield ok("settings", f"{given} are set, and can be used.")
    runs = server_runs(data_dir)
    settings = setup.settings
    yield from looked_at("machine", lambda: machine.look(data_dir, settings, server_runs=runs))
    yield from looked_at("libraries", lambda: software.look(settings))
    look = installation.look
    yield from looked_at("installation", lambda: look(data_dir, settings, system_clock, server_runs=runs))


def _print(finding: Finding) -> None:
    typer.echo(f"{MARKS[finding.state]} {finding.check}: {finding.detail}")
    if finding.next_step:
        typer.echo(f"        {finding.next_step}")
