"""What keeping every batch sealed until a checkpoint covers it costs a step, beside a run that keeps it in memory."""

from __future__ import annotations

from pathlib import Path

from tests.bench.harness import Figure, interleave, seconds
from tests.bench.service import make_batches, make_model, service
from tests.bench.sizes import TrainingSize
from tests.bench.training import MILLISECONDS, Pipelined

GOAL = 1.02
MEMORY = "the same run with batch_retention memory"


def run(size: TrainingSize, work: Path) -> list[Figure]:
    """Seconds per step of two runs on one server that differ in their retention alone."""
    model = make_model(work / "model", size.model)
    batches = make_batches(size.steps, size.rows, size.columns)
    with service(work, {"base": model}) as live:
        loops = {
            retention: Pipelined(live.new_run("base", size.rows, batch_retention=retention), size.ahead)
            for retention in ("sealed", "memory")
        }
        for loop in loops.values():
            loop.train(batches)
        timed = {name: lambda loop=loop: seconds(lambda: loop.train(batches)) for name, loop in loops.items()}
        found = interleave(size.rounds, timed)
    step = {name: spread.scaled(MILLISECONDS / size.steps) for name, spread in found.items()}
    return [Figure("step, sealed", "ms", step["sealed"], MEMORY, step["memory"], GOAL)]
