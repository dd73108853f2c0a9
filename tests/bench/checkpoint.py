"""A sealed checkpoint, durable and read back, beside a plain safetensors file of the same tensors, durable too."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from tensorguard.crypto.composite import CompositePrivateKey

from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider
from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.batch import Row
from processors.trainer.checkpoints import Checkpoints, Image, take_image
from processors.trainer.compute import forward_backward, optim_step
from producers.clock import system_clock
from producers.files import sync_folder
from schemas.events import RunCreated
from schemas.types import LoraSpec, OptimizerSpec
from tests.bench.harness import Figure, Spread, interleave, seconds
from tests.bench.sizes import CheckpointSize
from tests.support.tiny_model import build_tiny_model

TENANT, SEED = "bench", 7
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MILLISECONDS, MIB = 1e3, 1 << 20


def run(size: CheckpointSize, work: Path) -> list[Figure]:
    """Milliseconds of one save of an adapter and its optimizer."""
    sealed = _SealedSaves(_trained_adapter(size, work / "model"), work / "sealed")
    plain = _PlainSaves(sealed.adapter.tensors(include_optimizer=True), work / "plain.safetensors")
    interleave(1, {"sealed": sealed.save, "plain": plain.save})
    sealed.image_times.clear()
    found = interleave(size.rounds, {"sealed": sealed.save, "plain": plain.save})
    image = Spread(tuple(sealed.image_times)).median
    note = f"{plain.path.stat().st_size / MIB:.0f} MiB; of ours training itself waits for {image:.0f} ms, the copy"
    return [Figure("save", "ms", found["sealed"], "safetensors and fsync", found["plain"], note=note)]


@dataclass
class _SealedSaves:
    """Checkpoints as the trainer makes them; ``image_times`` is the milliseconds that each copy took."""

    adapter: Adapter
    folder: Path
    image_times: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        keys = FileKeyProvider(self.folder / "keys")
        self._checkpoints = Checkpoints(FileBlobStore(self.folder / "blobs"), keys, CompositePrivateKey.generate())

    def save(self) -> float:
        images: list[Image] = []
        copied = seconds(lambda: images.append(self._image()))
        stored = seconds(lambda: self._checkpoints.save(images[0]))
        self._checkpoints.delete(TENANT, bytes.fromhex(images[0].subject.artifact_id))
        self.image_times.append(copied * MILLISECONDS)
        return (copied + stored) * MILLISECONDS

    def _image(self) -> Image:
        return take_image(
            self.adapter,
            _created(self.adapter.spec),
            tenant=TENANT,
            artifact_id=secrets.token_bytes(16),
            created_at=system_clock(),
            lease_epoch=1,
            include_optimizer=True,
        )


@dataclass
class _PlainSaves:
    """What is compared with."""

    tensors: Mapping[str, Any]
    path: Path

    def save(self) -> float:
        self.path.unlink(missing_ok=True)
        return seconds(self._save) * MILLISECONDS

    def _save(self) -> None:
        save_file(dict(self.tensors), self.path)
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        sync_folder(self.path.parent)


def _trained_adapter(size: CheckpointSize, model: Path) -> Adapter:
    """An adapter after one step, so that its optimizer has state."""
    base = SharedBase(build_tiny_model(model, hidden=size.model.hidden, layers=size.model.layers))
    adapter = Adapter(
        base,
        LoraSpec(size.rank, float(size.rank), 0.0, MODULES, "none"),
        OptimizerSpec("adamw", 1e-3, 0.0, 0.9, 0.999, 1e-8),
        SEED,
    )
    forward_backward(adapter, [Row((5, 6, 7), (5, 6, 7))], SEED)
    optim_step(adapter, op_seq=2)
    return adapter


def _created(optimizer: OptimizerSpec) -> RunCreated:
    return RunCreated(
        run_id="bench",
        model="base",
        manifest_digest=bytes(32),
        tokenizer_digest=bytes(32),
        lora=None,
        optimizer=optimizer,
        batch_size=1,
        gradient_accumulation_steps=1,
        max_steps=None,
        seed=SEED,
        metadata_commitment=None,
    )
