"""Training through the API beside the same loop by hand: same model, batches, seed, threads; one after the other."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.bench.harness import Figure, Spread, interleave, seconds
from tests.bench.plain_loop import PlainLoop
from tests.bench.service import (
    ALPHA,
    LEARNING_RATE,
    MODULES,
    RANK,
    SEED,
    Batch,
    Service,
    make_batches,
    make_model,
    service,
)
from tests.bench.sizes import TrainingSize

GOAL = 1.05
PLAIN = "hand-written peft loop"
SAME_LOSS = 1e-3
MILLISECONDS = 1e3


@dataclass
class OneByOne:
    """A client that waits for each result before its next call, and notes how long each call took."""

    run: Any
    forward_seconds: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)

    def train(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            start = time.perf_counter()
            self.run.forward_backward(batch).result()
            middle = time.perf_counter()
            self.run.optim_step().result()
            self.forward_seconds.append(middle - start)
            self.step_seconds.append(time.perf_counter() - middle)


@dataclass
class Pipelined:
    """A client that submits ahead, so that the trainer never waits for it."""

    run: Any
    ahead: int
    losses: list[float] = field(default_factory=list)

    def train(self, batches: Sequence[Batch]) -> None:
        flying: deque[tuple[Any, Any]] = deque()
        for batch in batches:
            flying.append((self.run.forward_backward(batch), self.run.optim_step()))
            if len(flying) > self.ahead:
                self._land(flying.popleft())
        while flying:
            self._land(flying.popleft())

    def _land(self, pair: tuple[Any, Any]) -> None:
        self.losses.append(pair[0].result().loss)
        pair[1].result()


def run(size: TrainingSize, work: Path) -> list[Figure]:
    """Seconds per step of three loops, and what one call of the API adds."""
    model = make_model(work / "model", size.model)
    batches = make_batches(size.steps, size.rows, size.columns)
    with service(work, {"base": model}) as live:
        pipelined = Pipelined(live.new_run("base", size.rows), size.ahead)
        one_by_one = OneByOne(live.new_run("base", size.rows))
        pipelined.train(batches)
        one_by_one.train(batches)
        threads = _threads_of(live, pipelined.run.training_client_id)
        plain = _plain(model, threads)
        plain.train(batches)
        _check_same_work(pipelined, plain)
        _forget_warm_up(one_by_one, plain)
        loops = {"pipelined": pipelined, "one by one": one_by_one, "plain": plain}
        timed = {name: lambda loop=loop: seconds(lambda: loop.train(batches)) for name, loop in loops.items()}
        found = interleave(size.rounds, timed)
    return _figures(size, found, one_by_one, plain, f"{threads} threads each")


def _threads_of(live: Service, run_id: str) -> int:
    """The number of threads that the trainer says it used, on the ledger."""
    logs = live.client.get_audit_logs(stream=f"run/{run_id}", event="StepApplied", limit=1)
    return int(next(iter(logs)).data["plan"]["threads"])


def _plain(model: Path, threads: int) -> PlainLoop:
    torch.set_num_threads(threads)
    return PlainLoop(model, RANK, ALPHA, MODULES, LEARNING_RATE, SEED)


def _check_same_work(ours: Pipelined, plain: PlainLoop) -> None:
    for mine, theirs in zip(ours.losses, plain.losses, strict=True):
        if not math.isclose(mine, theirs, rel_tol=SAME_LOSS):
            raise RuntimeError(f"The loops do different work: their losses are {ours.losses} and {plain.losses}.")


def _forget_warm_up(*loops: OneByOne | PlainLoop) -> None:
    for loop in loops:
        loop.forward_seconds.clear()
        loop.step_seconds.clear()


def _figures(
    size: TrainingSize, found: dict[str, Spread], one_by_one: OneByOne, plain: PlainLoop, note: str
) -> list[Figure]:
    step = {name: spread.scaled(MILLISECONDS / size.steps) for name, spread in found.items()}
    return [
        Figure("step, pipelined", "ms", step["pipelined"], PLAIN, step["plain"], GOAL, note),
        Figure("step, one by one", "ms", step["one by one"], PLAIN, step["plain"]),
        _call("forward_backward", one_by_one.forward_seconds, plain.forward_seconds),
        _call("optim_step", one_by_one.step_seconds, plain.step_seconds),
    ]


def _call(name: str, ours: list[float], plain: list[float]) -> Figure:
    mine, theirs = (statistics.median(seconds_each) * MILLISECONDS for seconds_each in (ours, plain))
    note = f"{mine - theirs:.1f} ms added per call"
    return Figure(f"{name}, p50, one by one", "ms", Spread.of(mine), PLAIN, Spread.of(theirs), note=note)
