"""A server on Kafka with all its processes, and what tests do to it."""

from __future__ import annotations

import os
import random
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tg_tinker import LoRAConfig, OptimizerConfig, TrainingConfig
from tg_tinker.errors import TGTinkerError, TransientError

from api.roll import alive, rolls
from tests.support.server import LiveServer, tensorguard, tensorguard_json

PATIENCE = 240.0
RUN = TrainingConfig(
    model_ref="tiny",
    lora_config=LoRAConfig(rank=4, alpha=8, dropout=0.0, target_modules=("q_proj", "v_proj")),
    optimizer=OptimizerConfig(learning_rate=1e-3),
    seed=7,
)
ROWS = [list(range(5, 17)), list(range(20, 32))]
BATCH = {"input_ids": ROWS, "attention_mask": [[1] * 12] * 2, "labels": ROWS}
_GLANCE_SECONDS = 0.05


def keep_on_kafka(data_dir: Path, servers: str, **settings: int) -> None:
    """Settings of a data directory: a ledger of its own on a broker, and so many processes of each kind."""
    data_dir.mkdir(parents=True)
    given = {"kafka_partitions": 2, **settings}  # `acme` belongs to one of them, `platform` to the other
    lines = [f'log_url = "kafka://{servers}"', f'kafka_prefix = "t{uuid4().hex[:12]}"']
    (data_dir / "settings.toml").write_text("\n".join([*lines, *(f"{name} = {each}" for name, each in given.items())]))


def send_steps(training: Any, count: int) -> list[Any]:
    """Futures of so many steps, none of them awaited."""
    return [training.optim_step() for _ in range(count) if training.forward_backward(BATCH)]


def children(data_dir: Path) -> dict[str, int]:
    """The processes that run now, by their names."""
    named = [pair for roll in rolls(data_dir) for pair in roll.running.items()]
    return {name: pid for name, pid in named if pid is not None and alive(pid)}


def kill(data_dir: Path, kind: str, number: signal.Signals = signal.SIGKILL) -> list[int]:
    """Send a signal to every process of a kind; which they were."""
    victims = [pid for name, pid in children(data_dir).items() if name.partition("-")[0] == kind]
    for pid in victims:
        os.kill(pid, number)
    return victims


def wait_started_again(data_dir: Path, kind: str, victims: list[int]) -> None:
    """Block until as many others of the kind run."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / _GLANCE_SECONDS)):
        running = {pid for name, pid in children(data_dir).items() if name.partition("-")[0] == kind}
        if len(running - set(victims)) >= len(victims):
            return
        pause.wait(_GLANCE_SECONDS)
    raise AssertionError(f"{kind} was not started again")


def verify(data_dir: Path, out: Path) -> None:
    """Export the ledger as it is, and let the auditor find nothing, decisions included."""
    tensorguard("ledger", "export", "--data-dir", data_dir, "--out", out)
    report = tensorguard_json("audit", "verify", out, "--decisions", "--require-signed")
    assert report["verified"], report


@dataclass
class Load:
    """A client that trains until it is told to stop, and remembers every future that was acknowledged to it."""

    training: Any
    acknowledged: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    halt: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        """Train in a thread of its own."""
        thread = threading.Thread(target=self._train)
        thread.start()
        return thread

    def finish(self) -> None:
        """Wait for the last operation of the run: everything before it has its outcome then."""
        step = self.training.forward_backward(BATCH), self.training.optim_step()
        self.acknowledged += [future.future_id for future in step]
        self.steps.append(step[1].result(timeout=PATIENCE).step)

    def _train(self) -> None:
        rng = random.Random(7)
        while not self.halt.is_set():
            try:
                self._round(rng)
            except TransientError:
                continue  # the server was away for longer than a client retries by itself
            except TGTinkerError as error:
                self.unexpected.append(f"{error.code}: {error}")
                return

    def _round(self, rng: random.Random) -> None:
        rows = [[rng.randrange(5, 100) for _ in range(12)] for _ in range(2)]
        batch = {"input_ids": rows, "attention_mask": [[1] * 12] * 2, "labels": rows}
        self.acknowledged.append(self.training.forward_backward(batch).future_id)
        step = self.training.optim_step()
        self.acknowledged.append(step.future_id)
        self.steps.append(step.result(timeout=PATIENCE).step)


@dataclass
class Fleet:
    """A server whose ledger is on a broker, and a client of it."""

    server: LiveServer
    client: Any
    key: str

    @property
    def data_dir(self) -> Path:
        return self.server.data_dir

    def kill(self, kind: str) -> None:
        """SIGKILL for every process of a kind, and wait until its supervisor has started others."""
        wait_started_again(self.data_dir, kind, kill(self.data_dir, kind))
