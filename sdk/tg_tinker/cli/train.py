"""``tg-tinker train``: a whole supervised run by one command; Ctrl-C saves it, and says how to go on."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Annotated, Self

import typer
from tensorguard.errors import UsageError

from tg_tinker import schedules
from tg_tinker.cli.output import show
from tg_tinker.cli.session import AsJson, connect, settings
from tg_tinker.data import Collator, Example, Record, Stream, batches, shuffled, track
from tg_tinker.data import readers as files
from tg_tinker.data.collate import TokenBatch
from tg_tinker.data.examples import chat_examples, pair_examples, text_examples
from tg_tinker.errors import AccumulationFullError, RollbackError
from tg_tinker.futures import FutureHandle
from tg_tinker.service_client import ServiceClient
from tg_tinker.tokenizer import Tokenizer
from tg_tinker.training_client import TrainingClient
from tg_tinker.types import ForwardBackwardResult, LoRAConfig, OptimizerConfig, OptimStepResult, TrainingConfig

INTERRUPTED = 130  # what a shell gives a command that Ctrl-C ended


class Format(StrEnum):
    """What a record holds."""

    chat = "chat"
    text = "text"
    pairs = "pairs"


class Fall(StrEnum):
    """How the learning rate goes on after its warm-up."""

    cosine = "cosine"
    linear = "linear"
    constant = "constant"


@dataclass(frozen=True)
class Plan:
    """What makes the batches and rates of a run; the same plan gives the same again."""

    examples: Stream[Example]
    collate: Collator
    rows: int
    seed: int
    steps: int
    rate: schedules.Schedule

    def batches(self, start: int) -> Stream[TokenBatch]:
        """The batches from step ``start`` on, epoch after epoch."""

        def endless() -> Iterator[TokenBatch]:
            for epoch in count():
                yield from batches(shuffled(self.examples, self.seed, epoch=epoch), self.rows, self.collate)

        return Stream(endless, self.steps).take(self.steps).skip(start)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("train")(train)


def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A name of the server's catalogue.")],
    data: Annotated[list[Path], typer.Argument(metavar="FILE...", help="All .jsonl, all .parquet or all .txt.")],
    *,
    form: Annotated[
        Format, typer.Option("--format", help="A record holds messages, a text, or prompt and completion.")
    ] = Format.chat,
    epochs: Annotated[int, typer.Option(min=1, help="How often each example is used.")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps instead of epochs.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Examples in a batch.")] = 8,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens of an example at most.")] = 512,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 1e-4,
    schedule: Annotated[Fall, typer.Option(help="How it goes on after the warm-up.")] = Fall.cosine,
    warmup_steps: Annotated[int, typer.Option(min=0, help="Steps until the rate is at its highest.")] = 0,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and files give the same run.")] = 0,
    name: Annotated[str, typer.Option(help="Of the checkpoint at the end.")] = "trained",
    resume: Annotated[
        str | None, typer.Option(metavar="TRAINING_CLIENT_ID", help="Go on with a run; give all else as at first.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train on files and save a checkpoint. Ctrl-C saves at once and says how to go on."""
    with settings("training configuration"):
        config = TrainingConfig(
            model_ref=model,
            lora_config=LoRAConfig(rank=rank, alpha=2.0 * rank, target_modules=("all-linear",)),
            optimizer=OptimizerConfig(learning_rate=learning_rate, max_grad_norm=1.0),
            gradient_accumulation_steps=1,
            seed=seed,
        )
    with connect(context) as client:
        run = client.get_training_client(resume) if resume else _create(client, config)
        tokenizer = run.get_tokenizer()
        examples = _examples(form, data, tokenizer, min(max_length, run.info.model.max_positions))
        collate = Collator(tokenizer.pad_id, multiple_of=8)
        steps = steps or epochs * sum(1 for _ in track(batches(examples, rows, collate), "Reading"))
        plan = Plan(examples, collate, rows, seed, steps, _rates(schedule, learning_rate, steps, warmup_steps))
        if resume:
            _wait_for_what_was_sent(run, plan)
        _finish(run, plan, name, as_json=as_json)


def _create(client: ServiceClient, config: TrainingConfig) -> TrainingClient:
    run = client.create_training_client(config)
    sys.stderr.write(f"training client {run.training_client_id}\n")
    return run


def _examples(form: Format, paths: list[Path], tokenizer: Tokenizer, max_length: int) -> Stream[Example]:
    records = _records(paths)
    if form is Format.chat:
        return chat_examples(records, tokenizer, max_length=max_length)
    if form is Format.pairs:
        return pair_examples(records, tokenizer, max_length=max_length)
    return text_examples(records, tokenizer, max_length=max_length)


def _records(paths: list[Path]) -> Stream[Record]:
    endings = {path.suffix for path in paths}
    if endings == {".parquet"}:
        return files.read_parquet(*paths)
    if endings == {".txt"}:
        return files.read_text(*paths)
    if endings <= {".jsonl", ".json"}:
        return files.read_jsonl(*paths)
    raise UsageError(
        "The files are of kinds that cannot be told or mixed.",
        next_step="Give files that all end in .jsonl, .parquet or .txt.",
    )


def _rates(fall: Fall, peak: float, steps: int, warmup_steps: int) -> schedules.Schedule:
    if fall is Fall.constant:
        return schedules.constant(peak, warmup_steps=warmup_steps)
    shape = schedules.cosine if fall is Fall.cosine else schedules.linear
    return shape(peak, steps, warmup_steps=warmup_steps)


def _wait_for_what_was_sent(run: TrainingClient, plan: Plan) -> None:
    """A command that was killed may have left steps under way, which are not to be sent twice."""
    for batch in plan.batches(0).take(1):
        run.forward(batch).result()


def _finish(run: TrainingClient, plan: Plan, name: str, *, as_json: bool) -> None:
    """Take the run to its last step and save it; when interrupted, save it where it is."""
    with _Interruption() as interruption:
        _train(run, plan, interruption)
    step = run.refresh().step
    saved = run.save_state(name if step >= plan.steps else f"{name}-step-{step}").result()
    show(
        {"training_client_id": run.training_client_id, "step": step, "artifact_id": saved.artifact_id}, as_json=as_json
    )
    if step < plan.steps:
        sys.stderr.write(
            f"interrupted at step {step} of {plan.steps}; to go on, give the same command with "
            f"--resume {run.training_client_id}\n"
        )
        raise typer.Exit(INTERRUPTED)


class _Interruption:
    """While it is entered, the first Ctrl-C is a wish to end after the present step; the second ends at once."""

    def __enter__(self) -> Self:
        self.wished = False
        self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _hear(self, _number: int, _frame: object) -> None:
        self.wished = True
        signal.signal(signal.SIGINT, self._before)


def _train(run: TrainingClient, plan: Plan, interruption: _Interruption) -> None:
    """Make the steps that are missing, and once more those that a server lost."""
    while (done := run.refresh().step) < plan.steps and not interruption.wished:
        try:
            _steps(run, plan, done, interruption)
        except RollbackError as error:
            sys.stderr.write(f"rolled back to step {error.last_durable_step}; going on from there\n")


def _steps(run: TrainingClient, plan: Plan, start: int, interruption: _Interruption) -> None:
    """One step is sent while the one before it is executed, so that the trainer never waits for the network."""
    bar = track(plan.batches(start), total=plan.steps - start)
    sent: _Sent | None = None
    for step, batch in enumerate(bar, start):
        before, sent = sent, _Sent(_accumulated(run, batch), run.optim_step(learning_rate=plan.rate(step)))
        if before is not None:
            bar.note(loss=before.finished())
        if interruption.wished:
            break
    if sent is not None:
        bar.note(loss=sent.finished())


@dataclass(frozen=True)
class _Sent:
    """A step under way."""

    forward: FutureHandle[ForwardBackwardResult] | None
    applied: FutureHandle[OptimStepResult]

    def finished(self) -> float:
        """Its loss, once it has been made."""
        self.applied.result()
        return math.nan if self.forward is None else self.forward.result().loss


def _accumulated(run: TrainingClient, batch: TokenBatch) -> FutureHandle[ForwardBackwardResult] | None:
    """The batch's gradient on its way; None if a command that ended too early had sent it already."""
    try:
        return run.forward_backward(batch)
    except AccumulationFullError:
        return None
