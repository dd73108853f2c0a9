"""Checkpoints that a trainer made a moment ago, and exports of them, in one process."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from processors.catalogue import model_dir
from processors.catalogue.register import take_in
from processors.exporter.checkpoints import Checkpoints
from processors.exporter.merge import make_merged
from processors.exporter.merging import Merger, Task
from processors.exporter.orders import BaseFacts, Desk, Order
from processors.exporter.store import ExportStore
from processors.exporter.workbench import Workbench
from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.checkpoints import Checkpoints as Saved
from processors.trainer.checkpoints import take_image
from processors.trainer.compute import forward_backward, optim_step
from schemas import events as e
from schemas.types import LoraSpec, OptimizerSpec
from tests.support.tiny_model import VOCABULARY
from tests.trainer.batches import random_rows

if TYPE_CHECKING:
    from pathlib import Path

    from producers.installation import Installation
    from schemas.commands import RecordArtifactExported, RecordCheckpoint

TENANT = "acme"
SGD_LIKE = OptimizerSpec(name="adamw", learning_rate=2e-2, weight_decay=0.0, beta1=0.9, beta2=0.999, eps=1e-8)
TOKENS = torch.arange(24).reshape(2, 12) * 7 % VOCABULARY


class InProcess(Merger):
    """Merges without a process of its own, in small shards."""

    def __init__(self, installation: Installation, shard_bytes: int) -> None:
        self._installation = installation
        self._shard_bytes = shard_bytes

    def merge(self, task: Task) -> None:
        make_merged(self._installation, task, self._shard_bytes)


@dataclass(frozen=True)
class Trained:
    """A checkpoint of a model, and the logits that the trainer's own adapter gave then."""

    run: e.RunCreated
    checkpoint: RecordCheckpoint
    logits: Any


class Shop:
    """One model of an installation, where runs are trained, saved and exported."""

    def __init__(
        self, installation: Installation, model: Path, *, dtype: str = "float32", shard_bytes: int = 60_000
    ) -> None:
        self.installation = installation
        self.registered = take_in(self.installation, "tiny", model, dtype=dtype)
        self.directory = model_dir(installation, self.registered.manifest_digest)
        self.exports = ExportStore.of(self.installation)
        merger = InProcess(self.installation, shard_bytes)
        self.workbench = Workbench(Checkpoints.of(self.installation), self.exports, merger)
        self.desk = Desk()
        facts = BaseFacts(self.registered.architecture, dtype, None)
        self.desk.bases["tiny", self.registered.manifest_digest] = facts

    def train(self, lora: LoraSpec | None, steps: int = 3) -> Trained:
        """A run of a few steps, saved."""
        run = e.RunCreated(
            "run-1",
            "tiny",
            self.registered.manifest_digest,
            self.registered.tokenizer_digest,
            lora,
            SGD_LIKE,
            batch_size=1,
            gradient_accumulation_steps=1,
            max_steps=None,
            seed=7,
            metadata_commitment=None,
        )
        base = SharedBase(self.directory)
        adapter = Adapter(base, lora, SGD_LIKE, 7)  # type: ignore[arg-type]
        for step in range(1, steps + 1):
            forward_backward(adapter, random_rows(step), seed=step)
            optim_step(adapter, 2 * step)
        with torch.no_grad():
            logits = base.activate(adapter.name, training=False)(input_ids=TOKENS).logits
        image = take_image(
            adapter,
            run,
            tenant=TENANT,
            artifact_id=secrets.token_bytes(16),
            created_at=1,
            lease_epoch=1,
            include_optimizer=True,
        )
        return Trained(run, Saved.of(self.installation).save(image), logits)

    def order(self, trained: Trained, kind: str) -> Order:
        """An export as the ledger has it."""
        checkpoint = trained.checkpoint
        request = e.ArtifactExportRequested(
            trained.run.run_id, checkpoint.artifact_id, checkpoint.manifest_digest, secrets.token_bytes(16), kind
        )
        return Order(TENANT, request, 1, secrets.token_bytes(16))

    def export(self, order: Order, folder: Path) -> RecordArtifactExported:
        """Make an export, and write its files where a client would."""
        made = self.workbench.make(order, self.desk)
        listing = self.exports.open(TENANT, made.export_id)
        assert listing is not None
        folder.mkdir()
        for file in listing.files:
            (folder / file.path).write_bytes(b"".join(self.exports.read(listing, file.path)))
        return made
