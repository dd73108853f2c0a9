"""``python -m tests.bench [NAME…] [--json]``: every figure beside its baseline; nothing passes or fails on time."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from processors.trainer.tuning import TUNING
from tests.bench.harness import Figure, Spread, machine, seconds
from tests.bench.sizes import FULL, TINY, Sizes

NAMES = tuple(each.name for each in fields(Sizes))
"""Each is a module of this folder with ``run(size, work) -> list[Figure]``."""
WIDTH = 110
SPIN = "GOMP_SPINCOUNT"


def run(name: str, sizes: Sizes) -> list[Figure]:
    """The figures of one benchmark, measured in a folder that is gone afterwards."""
    bench = importlib.import_module(f"tests.bench.{name}")
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as work:
        figures: list[Figure] = bench.run(getattr(sizes, name), Path(work))
        return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for and print it."""
    options = _options(arguments)
    # Read when torch is loaded: on a busy machine threads that wait as they do by default would flatter us.
    os.environ.setdefault(SPIN, TUNING[SPIN])
    console = Console(stderr=True)
    found: dict[str, list[Figure]] = {}
    about = machine(Path(tempfile.gettempdir()))
    for name in chosen(options.names):
        with console.status(f"{name} …"):
            took = seconds(lambda name=name: found.update({name: run(name, TINY if options.tiny else FULL)}))
        console.print(f"{name}: {took:.0f} s")
    if options.markdown:
        sys.stdout.write(_markdown(about, found))
    elif options.json:
        figures = {name: [figure.to_dict() for figure in found[name]] for name in found}
        sys.stdout.write(json.dumps({"machine": about, "figures": figures}, indent=2) + "\n")
    else:
        _print(Console(width=max(WIDTH, Console().width)), about, found)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Ratios against baselines of one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--markdown", action="store_true", help="tables as docs/benchmarks.md has them")
    parser.add_argument("--tiny", action="store_true", help="a size that only shows that it runs")
    options = parser.parse_args(arguments)
    unknown = {name for name in options.names if not chosen([name])}
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return options


def chosen(names: Sequence[str]) -> list[str]:
    """Those named, or all; ``kafka`` stands for every one whose name begins so."""
    return [each for each in NAMES if not names or any(each == name or each.startswith(f"{name}_") for name in names)]


def _markdown(about: dict[str, object], found: dict[str, list[Figure]]) -> str:
    """Tables to be pasted into docs/benchmarks.md."""
    lines = [" · ".join(f"{key} {value}" for key, value in about.items())]
    for name, figures in found.items():
        lines += ["", f"| {name} | ours | baseline | ratio |", "|---|---|---|---|"]
        for figure in figures:
            baseline = f"{_spread(figure.baseline_value)} {figure.unit}: {figure.baseline}" if figure.baseline else ""
            goal = f", goal {_goal(figure)}" if _goal(figure) else ""
            ours = f"{_spread(figure.value)} {figure.unit}"
            lines.append(f"| {figure.name} | {ours} | {baseline} | {_spread(figure.ratio)}{goal} |")
        lines += [f"\n{figure.name}: {figure.note}." for figure in figures if figure.note]
    return "\n".join(lines) + "\n"


def _print(console: Console, about: dict[str, object], found: dict[str, list[Figure]]) -> None:
    console.print(" · ".join(f"{key} {value}" for key, value in about.items()), soft_wrap=True)
    for name, figures in found.items():
        table = Table("figure", "median (min-max)", "baseline", "ratio", "goal", title=name, title_justify="left")
        for figure in figures:
            table.add_row(*_row(figure))
        console.print(table)
        for figure in (each for each in figures if each.note):
            console.print(f"  {figure.name}: {figure.note}", soft_wrap=True)


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        f"{figure.name}, {figure.unit}",
        _spread(figure.value),
        f"{figure.baseline}\n{_spread(figure.baseline_value)}" if figure.baseline else "",
        _spread(figure.ratio),
        _goal(figure),
    )


def _goal(figure: Figure) -> str:
    if figure.at_least is not None:
        return f"≥ {figure.at_least:g}"
    return "" if figure.goal is None else f"≤ {figure.goal:g}"


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return ""
    median = _number(spread.median)
    return median if len(spread.values) == 1 else f"{median} ({_number(spread.low)}-{_number(spread.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def quiet() -> None:
    """Keep the platform's log lines out of what is printed."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


if __name__ == "__main__":
    quiet()
    sys.exit(main())
