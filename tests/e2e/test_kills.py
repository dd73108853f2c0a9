"""SIGKILL at random moments of a run whose batches are in memory only: what is lost is told, nothing is doubled."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tg_tinker import LoRAConfig, OptimizerConfig, SamplingConfig, ServiceClient, TrainingConfig
from tg_tinker.errors import NothingToApplyError, RollbackError, TGTinkerError, TransientError

from tests.support.catalogue import add_model
from tests.support.server import LiveServer, tensorguard, tensorguard_json
from tests.support.tiny_model import build_tiny_model

SEEDS_IN_SUITE = (1, 7, 5)
"""A kill of the server, of the trainer, of the signer."""
VICTIMS = ("server", "processors.trainer", "producers.signer", "processors.packager")
OUTCOMES = {
    "ForwardBackwardCompleted",
    "StepApplied",
    "SampleCompleted",
    "CheckpointSaved",
    "OperationFailed",
    "OperationCancelled",
}
PATIENCE = 120.0
SETTINGS = {"TG_CHECKPOINT_EVERY_STEPS": "3", "TG_CHECKPOINT_EVERY_SECONDS": "5"}


@dataclass
class Session:
    """A client that trains until it is told to stop, and remembers every future that was acknowledged to it."""

    client: Any
    training: Any
    acknowledged: list[str] = field(default_factory=list)
    steps_seen: dict[str, int] = field(default_factory=dict)
    unexpected: list[str] = field(default_factory=list)
    halt: threading.Event = field(default_factory=threading.Event)

    def train(self, rng: random.Random) -> None:
        while not self.halt.is_set():
            try:
                self._one_round(rng)
            except (RollbackError, TransientError, NothingToApplyError):
                continue  # the batch of this step was lost with its worker: start the round again
            except TGTinkerError as error:
                self.unexpected.append(f"{error.code}: {error}")
                return

    def _one_round(self, rng: random.Random) -> None:
        rows = [[rng.randrange(5, 100) for _ in range(12)] for _ in range(2)]
        batch = {"input_ids": rows, "attention_mask": [[1] * 12] * 2, "labels": rows}
        forward = self.training.forward_backward(batch)
        self.acknowledged.append(forward.future_id)
        step = self.training.optim_step()
        self.acknowledged.append(step.future_id)
        self.steps_seen[step.future_id] = step.result(timeout=PATIENCE).step
        if rng.random() < 0.2:
            sample = self.training.sample(["to be"], SamplingConfig(max_tokens=4, temperature=0.0))
            self.acknowledged.append(sample.future_id)
        if rng.random() < 0.2:
            self.acknowledged.append(self.training.save_state(f"s{rng.randrange(10**6)}").future_id)


def _ledger_events(client: Any) -> list[Any]:
    return list(client.get_audit_logs(limit=100_000))


def _check_ledger(data_dir: Path, out: Path) -> dict[str, Any]:
    tensorguard("ledger", "export", "--data-dir", data_dir, "--out", out)
    report: dict[str, Any] = tensorguard_json("audit", "verify", out, "--decisions")
    assert report["verified"], report
    return report


def _check_recovery(events: list[Any], run_id: str) -> None:
    """Steps go on from the last durable one; a restored adapter is the one that the durable step had."""
    step = 0
    for event in events:
        if event.stream != f"run/{run_id}":
            continue
        if event.event == "StepApplied":
            assert event.data["step"] == step + 1
            step = event.data["step"]
        elif event.event == "RunLeaseGranted":
            step = event.data["resume_step"]
        elif event.event == "RunRolledBack":
            assert event.data["last_durable_step"] == step


def _check_acknowledged(events: list[Any], session: Session) -> None:
    """What a client was told is on the ledger, once: that its operation was taken, and which step it led to."""
    submitted = Counter(e.data["operation_id"] for e in events if e.event.endswith("Submitted"))
    assert all(submitted[future] == 1 for future in session.acknowledged)
    outcomes = Counter(e.data["operation_id"] for e in events if e.event in OUTCOMES and e.data["operation_id"])
    assert not [operation for operation, times in outcomes.items() if times > 1 or operation not in submitted]
    applied = {e.data["operation_id"]: e.data["step"] for e in events if e.event == "StepApplied"}
    assert {future: applied.get(future) for future in session.steps_seen} == session.steps_seen


def _settle(training: Any) -> Any:
    """A first durable save after a kill: what the worker restored."""
    for _ in range(20):
        try:
            return training.save_state("settled").result(timeout=PATIENCE)
        except (RollbackError, TransientError):
            continue
    raise AssertionError("the run did not settle")


def _restored_digest_is_that_of_the_durable_step(events: list[Any], run_id: str) -> None:
    digests: dict[int, str] = {}
    for event in events:
        if event.stream != f"run/{run_id}":
            continue
        if event.event == "RunLeaseGranted":
            digests = {s: d for s, d in digests.items() if s <= event.data["resume_step"]}
        if event.event == "StepApplied":
            digests[event.data["step"]] = event.data["adapter_digest"]
        if event.event == "CheckpointSaved" and event.data["step"] in digests:
            assert event.data["adapter_digest"] == digests[event.data["step"]]


def _survive(tmp_path: Path, seeds: list[int]) -> None:
    data_dir = tmp_path / "data"
    model = build_tiny_model(tmp_path / "model")
    add_model(data_dir, "tiny", model)
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
    server = LiveServer(data_dir, tmp_path / "server.log", SETTINGS).start()
    try:
        with ServiceClient(base_url=server.url, api_key=key) as client:
            training = client.create_training_client(
                TrainingConfig(
                    model_ref="tiny",
                    lora_config=LoRAConfig(rank=4, alpha=8, dropout=0.0, target_modules=["q_proj", "v_proj"]),
                    optimizer=OptimizerConfig(learning_rate=1e-3),
                    batch_retention="memory",
                    seed=7,
                )
            )
            acknowledged = 0
            for seed in seeds:
                rng = random.Random(seed)
                moment, victim = rng.uniform(0.3, 3.0), rng.choice(VICTIMS)  # before the client draws from it as well
                session = Session(client, training)
                thread = threading.Thread(target=session.train, args=(rng,))
                thread.start()
                threading.Event().wait(moment)
                if victim == "server":
                    server.kill()
                    server.start()
                else:
                    server.kill_child(victim)
                session.halt.set()
                thread.join(PATIENCE)
                assert not thread.is_alive(), f"seed {seed}: the client hangs after {victim} was killed"
                assert not session.unexpected, f"seed {seed}: {victim}: {session.unexpected}"
                server.wait_ready()
                _settle(training)
                events = _ledger_events(client)
                _check_acknowledged(events, session)
                acknowledged += len(session.acknowledged)
                _check_recovery(events, training.training_client_id)
                _restored_digest_is_that_of_the_durable_step(events, training.training_client_id)
                _check_ledger(data_dir, tmp_path / f"export-{seed}")
            assert acknowledged > 2 * len(seeds), "the kills must meet a client at work"
            assert any(event.event == "RunRolledBack" for event in events), "some kill must have cost something"
    finally:
        server.stop()


@pytest.mark.timeout(600)
def test_no_acknowledged_event_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    _survive(tmp_path, list(SEEDS_IN_SUITE))


@pytest.mark.soak
def test_many_kills(tmp_path: Path) -> None:
    _survive(tmp_path, list(range(1000, 1000 + int(os.environ.get("TG_SOAK_SEEDS", "40")))))
