"""A real server with models in its catalogue and a client on it, as a user has them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tg_tinker import LoRAConfig, OptimizerConfig, ServiceClient, TrainingConfig

from tests.bench.sizes import ModelSize
from tests.support.catalogue import add_model
from tests.support.server import LiveServer, tensorguard_json
from tests.support.tiny_model import VOCABULARY, build_tiny_model

RANK, ALPHA, MODULES, LEARNING_RATE, SEED = 8, 16, ("q_proj", "v_proj"), 1e-3, 7
Batch = dict[str, list[list[int]]]


@dataclass(frozen=True, slots=True)
class Service:
    """The server's process and a client with a tenant's key."""

    server: LiveServer
    client: Any
    api_key: str

    def new_run(self, model: str, rows: int, rank: int = RANK, modules: Sequence[str] = MODULES, **config: Any) -> Any:
        """A LoRA run; what is not given is the same for all benchmarks."""
        return self.client.create_training_client(
            TrainingConfig(
                model_ref=model,
                lora_config=LoRAConfig(rank=rank, alpha=ALPHA, dropout=0.0, target_modules=list(modules)),
                optimizer=OptimizerConfig(learning_rate=LEARNING_RATE, weight_decay=0.01),
                batch_size=rows,
                seed=SEED,
                **config,
            )
        )


@contextmanager
def service(work: Path, models: Mapping[str, Path]) -> Iterator[Service]:
    """Start a server on a new data directory; stop it at the end."""
    data_dir = work / "data"
    for name, path in models.items():
        add_model(data_dir, name, path)
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "bench")["api_key"]
    server = LiveServer(data_dir, work / "server.log").start()
    try:
        with ServiceClient(base_url=server.url, api_key=key) as client:
            yield Service(server, client, key)
    finally:
        server.stop()


def make_model(path: Path, size: ModelSize, seed: int = 0) -> Path:
    """A base model with random weights."""
    return build_tiny_model(path, seed=seed, hidden=size.hidden, layers=size.layers)


def make_batches(count: int, rows: int, columns: int, seed: int = SEED) -> list[Batch]:
    """Batches of random tokens without padding."""
    rng = random.Random(seed)
    return [_batch([[rng.randrange(5, VOCABULARY) for _ in range(columns)] for _ in range(rows)]) for _ in range(count)]


def _batch(ids: list[list[int]]) -> Batch:
    return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids], "labels": ids}
