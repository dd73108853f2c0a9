"""SIGKILL at seeded moments of a sealed run: it replays by itself, bit for bit, and its client notices nothing."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tg_tinker import LoRAConfig, OptimizerConfig, SamplingConfig, ServiceClient, TrainingConfig

from tests.support.catalogue import add_model
from tests.support.server import LiveServer, tensorguard, tensorguard_json
from tests.support.tiny_model import build_tiny_model

SEEDS_IN_SUITE = (0, 1, 3, 5)
"""A kill of the signer, of the server, and two of the trainer."""
STEPS_PER_KILL = 24
PATIENCE = 180.0
VICTIMS = ("server", "processors.trainer", "processors.trainer", "producers.signer")
SETTINGS = {"TG_CHECKPOINT_EVERY_STEPS": "10", "TG_CHECKPOINT_EVERY_SECONDS": "600"}


@dataclass
class Place:
    """A server with a tiny model, and a client of it."""

    server: LiveServer
    client: Any
    data_dir: Path

    def run(self, *, dropout: float = 0.1) -> Any:
        return self.client.create_training_client(
            TrainingConfig(
                model_ref="tiny",
                lora_config=LoRAConfig(rank=4, alpha=8, dropout=dropout, target_modules=("q_proj", "v_proj")),
                optimizer=OptimizerConfig(learning_rate=1e-3),
                seed=7,
            )
        )

    def events(self, training: Any) -> list[Any]:
        stream = f"run/{training.training_client_id}"
        return [event for event in self.client.get_audit_logs(limit=1_000_000) if event.stream == stream]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("replays")
    data_dir = root / "data"
    add_model(data_dir, "tiny", build_tiny_model(root / "model"))
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
    server = LiveServer(data_dir, root / "server.log", SETTINGS).start()
    try:
        with ServiceClient(base_url=server.url, api_key=key) as client:
            yield Place(server, client, data_dir)
    finally:
        server.stop()


def batch_of(step: int) -> dict[str, Any]:
    rng = random.Random(step)
    rows = [[rng.randrange(5, 100) for _ in range(12)] for _ in range(2)]
    return {"input_ids": rows, "attention_mask": [[1] * 12] * 2, "labels": rows}


@dataclass
class Trained:
    """What a client was told of some steps, without ever catching an error."""

    losses: list[float] = field(default_factory=list)
    completions: list[str] = field(default_factory=list)
    error: BaseException | None = None


def train(training: Any, steps: Sequence[int], told: Trained) -> None:
    """Steps as a plain user writes them: no word about retries, rollbacks or restarts."""
    losses, samples = [], []
    for step in steps:
        losses.append(training.forward_backward(batch_of(step)))
        applied = training.optim_step()
        if step % 6 == 5:
            samples.append(training.sample(["to be"], SamplingConfig(max_tokens=4, temperature=0.0)))
            applied.result(timeout=PATIENCE)
    told.losses += [each.result(timeout=PATIENCE).loss for each in losses]
    told.completions += [each.result(timeout=PATIENCE).samples[0].completion for each in samples]


def train_through_a_kill(place: Place, training: Any, steps: Sequence[int], seed: int, told: Trained) -> None:
    def work() -> None:
        try:
            train(training, steps, told)
        except BaseException as error:  # noqa: BLE001 -- whatever a user would see is the finding
            told.error = error

    rng = random.Random(seed)
    thread = threading.Thread(target=work)
    thread.start()
    threading.Event().wait(rng.uniform(0.05, 1.5))
    victim = rng.choice(VICTIMS)
    if victim == "server":
        place.server.kill()
        place.server.start()
    else:
        place.server.kill_child(victim)
    thread.join(PATIENCE)
    assert not thread.is_alive(), f"seed {seed}: the client hangs after {victim} was killed"
    assert told.error is None, f"seed {seed}, {victim}: {told.error!r}"


def digests(events: list[Any]) -> dict[int, str]:
    return {event.data["step"]: event.data["adapter_digest"] for event in events if event.event == "StepApplied"}


def survive(place: Place, out: Path, seeds: Sequence[int]) -> None:
    training, told = place.run(), Trained()
    for number, seed in enumerate(seeds):
        steps = range(number * STEPS_PER_KILL, (number + 1) * STEPS_PER_KILL)
        train_through_a_kill(place, training, steps, seed, told)
    place.server.wait_ready()
    reference, undisturbed = place.run(), Trained()
    train(reference, range(len(seeds) * STEPS_PER_KILL), undisturbed)
    assert (told.losses, told.completions) == (undisturbed.losses, undisturbed.completions)
    events = place.events(training)
    assert digests(events) == digests(place.events(reference))
    names = [event.event for event in events]
    assert "RunRolledBack" not in names
    assert "OperationFailed" not in names
    replays = [event for event in events if event.event == "RunReplayed"]
    assert replays, "some kill must have met a run with steps to replay"
    assert all(event.data["identical"] for event in replays)
    assert "BatchKeyDestroyed" in names, "inputs that a checkpoint covers must not stay readable"
    tensorguard("ledger", "export", "--data-dir", place.data_dir, "--out", out)
    report = tensorguard_json("audit", "verify", out, "--decisions")
    assert report["verified"], report


@pytest.mark.timeout(900)
def test_a_killed_run_ends_at_the_adapter_of_an_undisturbed_one(place: Place, tmp_path: Path) -> None:
    survive(place, tmp_path / "export", SEEDS_IN_SUITE)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_many_killed_runs_end_at_the_adapter_of_an_undisturbed_one(place: Place, tmp_path: Path) -> None:
    survive(place, tmp_path / "export", range(1000, 1000 + int(os.environ.get("TG_SOAK_SEEDS", "50"))))
