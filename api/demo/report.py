"""The demo's report: what was measured, as it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape

from api.demo.errors import PartFailedError
from api.demo.fleet import WhoDidWhat

LEAST_FALL_PERCENT = 5.0


@dataclass(frozen=True)
class SampleBeforeAfter:
    """One prompt, completed before and after fine-tuning."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Head:
    """A verified chain; ``root`` is the Merkle root over all its records."""

    chain: str
    records: int
    signed: int
    root: str


@dataclass(frozen=True)
class Replay:
    """How a killed run came back: so many steps computed again, and whether each gave the adapter it had given.

    ``differing_step`` is the first that did not, and ``plan`` what it was computed with.
    """

    steps: int
    identical: bool
    differing_step: int | None = None
    plan: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Report:
    """Losses are nats per token on text of files that neither training has seen."""

    base_held_out_loss: float
    base_unigram_loss: float
    base_steps: int
    held_out_loss_before: float
    held_out_loss_after: float
    fall_percent: float
    steps: int
    replay: Replay
    package_bytes: int
    device_sample: str
    samples: Sequence[SampleBeforeAfter]
    ledger_bytes: int
    ledger_records: int
    heads: Sequence[Head]
    seconds: Mapping[str, float]
    who_did_what: WhoDidWhat | None = None

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "seconds_in_all": round(sum(self.seconds.values()), 1)}


def fall_percent(before: float, after: float) -> float:
    """By how much a loss has fallen, in percent of what it was."""
    return 100 * (before - after) / before


def check(report: Report) -> None:
    """Whether the demo showed what it claims.

    Raises:
        PartFailedError: the held-out loss did not fall enough, or the killed run came back as another adapter.
    """
    if not report.replay.identical:
        raise PartFailedError(
            "The killed run came back as another adapter.",
            next_step=f"Step {report.replay.differing_step} differs, computed again with {report.replay.plan}. Compare "
            "that with the plan of its StepApplied record.",
        )
    if not report.fall_percent >= LEAST_FALL_PERCENT:
        raise PartFailedError(
            f"The held-out loss fell by {report.fall_percent:.1f} % only; {LEAST_FALL_PERCENT:g} % is the claim.",
            next_step="Look at the base model's loss: with little or odd text there is little to build on.",
        )


def show(report: Report, console: Console) -> None:
    """The report for people."""
    console.print("[bold]Report[/bold]")
    for name, value in _lines(report):
        first, *more = value.splitlines()
        console.print(f"  [bold]{name:<19}[/bold]{escape(first)}", highlight=False, soft_wrap=True)
        for line in more:
            console.print(f"  {'':<19}{escape(line)}", highlight=False, soft_wrap=True)


def _lines(report: Report) -> list[tuple[str, str]]:
    base = f"{report.base_held_out_loss:.3f} on unseen code after {report.base_steps} steps"
    fall = f"{report.held_out_loss_before:.3f} → {report.held_out_loss_after:.3f}, {report.fall_percent:.1f} % less"
    same = "bit for bit" if report.replay.identical else "but differently"
    replay = f"nothing lost; {report.replay.steps} steps computed again, {same}"
    ledger = f"{report.ledger_records} records, {report.ledger_bytes / 1024:.0f} KiB, verified with every decision"
    heads = "\n".join(f"{head.chain}  {head.records} records  {head.root}" for head in report.heads)
    seconds = "\n".join(f"{seconds:6.1f} s  {name}" for name, seconds in report.seconds.items())
    return [
        ("base model's loss", f"{base}; a unigram model's {report.base_unigram_loss:.3f}"),
        ("held-out loss", f"{fall} (unseen docstrings, {report.steps} LoRA steps)"),
        ("SIGKILL", replay),
        ("package", f"{report.package_bytes / 1024:.0f} KiB, opened on a device"),
        ("ledger", ledger),
        ("heads", heads),
        ("time", f"{seconds}\n{sum(report.seconds.values()):6.1f} s  in all"),
    ]
