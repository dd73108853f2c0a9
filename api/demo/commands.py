"""``tensorguard demo``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    *,
    data_dir: Annotated[
        Path, typer.Option(help="Folder for all that the demo makes; one of an earlier demo is replaced.")
    ] = Path(".demo"),
    text: Annotated[
        Path | None, typer.Option(help="Text for the base model instead of the standard library's code.", exists=True)
    ] = None,
    kafka: Annotated[
        bool, typer.Option("--kafka", help="Keep the ledger on Kafka: that of TG_LOG_URL, or a broker started for it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON; progress goes to stderr.")] = False,
) -> None:
    """The main job on real input, from a base model to a device and an audit; under four minutes on two cores."""
    from rich.console import Console  # noqa: PLC0415 -- light start

    from api.demo import orchestrate  # noqa: PLC0415
    from api.demo.report import check, show  # noqa: PLC0415
    from api.demo.screen import Screen  # noqa: PLC0415

    screen = Screen(Console(stderr=as_json))
    report = orchestrate.run(data_dir, text, screen, kafka=kafka)
    if as_json:
        sys.stdout.write(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    else:
        show(report, screen.console)
    check(report)
