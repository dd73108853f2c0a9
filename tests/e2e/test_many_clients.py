"""Sixteen clients at once, each doing what clients do, for as long as one likes: no error, and memory stays flat."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tg_tinker import LoRAConfig, SamplingConfig, ServiceClient, TrainingConfig

from tests.support.catalogue import add_model
from tests.support.server import LiveServer, tensorguard, tensorguard_json
from tests.support.tiny_model import build_tiny_model

CLIENTS = 16
SECONDS = float(os.environ.get("TG_SOAK_SECONDS", "600"))
PATIENCE = 300.0
GROWTH = 1.2
ROUND_PAUSE = 0.05
CHILDREN = ("processors.trainer", "processors.packager", "producers.signer")


@dataclass
class Load:
    """What all clients share: until when they work, and what they saw go wrong."""

    end: float
    errors: list[str] = field(default_factory=list)
    rounds: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, url: str, key: str, number: int) -> None:
        try:
            with ServiceClient(base_url=url, api_key=key) as client:
                self._rounds(client, random.Random(number))
        except Exception as error:  # noqa: BLE001 -- whatever a user would see is the finding
            with self.lock:
                self.errors.append(f"client {number}: {error!r}")

    def _rounds(self, client: Any, rng: random.Random) -> None:
        training = client.create_training_client(
            TrainingConfig(model_ref="tiny", lora_config=LoRAConfig(rank=4), seed=rng.randrange(1 << 30))
        )
        while time.monotonic() < self.end:
            self._round(client, training, rng)
            with self.lock:
                self.rounds += 1
        training.close()

    def _round(self, client: Any, training: Any, rng: random.Random) -> None:
        rows = [[rng.randrange(5, 100) for _ in range(rng.randrange(4, 24))]] * 2
        batch = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows], "labels": rows}
        handles = [training.forward_backward(batch), training.optim_step()]
        match rng.randrange(6):
            case 0:
                handles.append(training.sample(["to be"], SamplingConfig(max_tokens=16, seed=rng.randrange(99))))
            case 1:
                handles.append(training.save_state(f"s{rng.randrange(10**9)}"))
            case 2:
                handles.append(training.forward(batch))
            case 3:
                list(client.list_training_clients(limit=5))
        for handle in handles:
            handle.result(timeout=PATIENCE)


def _resident_mib(server: LiveServer) -> dict[str, float]:
    assert server.process is not None
    pids = {"server": server.process.pid, **{name: server.child(name) for name in CHILDREN}}
    return {name: _rss(pid) for name, pid in pids.items() if pid is not None}


def _rss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[LiveServer, str]]:
    data_dir = tmp_path / "data"
    add_model(data_dir, "tiny", build_tiny_model(tmp_path / "model"))
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
    server = LiveServer(data_dir, tmp_path / "server.log").start()
    try:
        yield server, key
    finally:
        server.stop()


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_sixteen_clients_meet_no_error_and_memory_stays_flat(place: tuple[LiveServer, str], tmp_path: Path) -> None:
    server, key = place
    load = Load(time.monotonic() + SECONDS)
    threads = [threading.Thread(target=load.work, args=(server.url, key, number)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    threading.Event().wait(SECONDS / 2)
    half = _resident_mib(server)
    threading.Event().wait(SECONDS * 0.45)
    late = _resident_mib(server)
    for thread in threads:
        thread.join(PATIENCE)
    assert not load.errors
    assert load.rounds > CLIENTS
    assert {name: mib for name, mib in late.items() if mib > GROWTH * half[name]} == {}, (half, late)
    tensorguard("ledger", "export", "--data-dir", tmp_path / "data", "--out", tmp_path / "export", timeout=600)
    report = tensorguard_json("audit", "verify", tmp_path / "export", timeout=600)
    assert report["verified"], report
