"""Memory that a second run on one base adds to the trainer, beside what a second base adds to the same process."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tests.bench.harness import Figure, Spread
from tests.bench.service import Service, make_batches, make_model, service
from tests.bench.sizes import MemorySize

ROWS, COLUMNS, STEPS = 1, 16, 2
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MIB = 1 << 20


def run(size: MemorySize, work: Path) -> list[Figure]:
    """MiB of the trainer's own memory that each new run adds."""
    models = {name: make_model(work / name, size.model, seed) for seed, name in enumerate(("base-a", "base-b"))}
    with service(work, models) as live:
        alone = _after_a_run(live, size, "base-a")
        shared = [alone, *(_after_a_run(live, size, "base-a") for _ in range(size.runs))]
        second_base = _after_a_run(live, size, "base-b") - shared[-1]
    added = Spread(tuple(after - before for before, after in pairwise(shared)))
    weights = (work / "base-a" / "model.safetensors").stat().st_size / MIB
    note = f"base weights {weights:.0f} MiB; the trainer with one run {alone:.0f} MiB"
    return [Figure("another run", "MiB", added, "a run on a second base", Spread.of(second_base), note=note)]


def _after_a_run(live: Service, size: MemorySize, model: str) -> float:
    """MiB of the trainer once one more run has trained."""
    training = live.new_run(model, ROWS, size.rank, MODULES)
    for batch in make_batches(STEPS, ROWS, COLUMNS):
        training.forward_backward(batch).result()
        training.optim_step().result()
    return _trainer_mib(live)


def _trainer_mib(live: Service) -> float:
    """The trainer's resident memory; its process hides all finer figures from other users."""
    status = Path(f"/proc/{live.server.child('processors.trainer')}/status").read_text()
    resident = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(resident.split()[1]) * 1024 / MIB
