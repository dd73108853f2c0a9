"""Runs that this worker holds: their adapters on shared bases, made when they are first needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
import torch
from tensorguard.model_manifest import stamps

from processors.catalogue import model_dir, verify_model
from processors.errors import ModelChangedError
from processors.trainer.adapter import Adapter
from processors.trainer.base_model import SharedBase
from processors.trainer.checkpoints import Checkpoints, Source
from processors.trainer.device import Compute
from processors.trainer.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from processors.trainer.runs import Pending, Runs, RunView
    from producers.installation import Installation

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class LiveRun:
    """A run under a lease of ours.

    ``executed`` is the last operation that was executed; ``imaged`` the ``through_op_seq`` of the newest
    image that a checkpoint was or is made from; ``imaged_step`` and ``imaged_at`` its step and time (seconds).
    """

    view: RunView
    lease_epoch: int
    executed: int
    imaged: int
    imaged_step: int
    imaged_at: float
    adapter: Adapter | None = None
    writing: bool = False

    def next_operation(self) -> Pending | None:
        """The operation whose turn it is."""
        return next((op for op in self.view.pending.values() if op.op_seq > self.executed), None)

    @property
    def dirty(self) -> bool:
        """Whether adapter or optimizer moved after the newest image."""
        return self.adapter is not None and self.adapter.through_op_seq > self.imaged

    def free(self) -> None:
        """Give the adapter's memory back."""
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            adapter.close()


class Bases:
    """Base models in memory, each checked against its digests before it is loaded."""

    def __init__(self, installation: Installation, compute: Compute | None = None) -> None:
        self._installation = installation
        self._compute = compute or Compute()
        self._loaded: dict[tuple[bytes, str], SharedBase] = {}

    def __len__(self) -> int:
        return len(self._loaded)

    def get(self, manifest_digest: bytes, dtype: str = "float32") -> SharedBase:
        """A base model, its weights as numbers of a type.

        Raises:
            ModelChangedError: a file is not the one that was registered.
        """
        key = (manifest_digest, dtype)
        if key not in self._loaded:
            directory = model_dir(self._installation, manifest_digest)
            self._loaded[key] = _checked(directory, manifest_digest, self._compute, dtype)
            log.info("base_model_loaded", manifest_digest=manifest_digest.hex(), dtype=dtype)
        return self._loaded[key]

    def keep(self, used: Collection[SharedBase]) -> None:
        """Let go of all base models but these."""
        for key in [key for key, base in self._loaded.items() if base not in used]:
            del self._loaded[key]
            log.info("base_model_released", manifest_digest=key[0].hex(), dtype=key[1])


def _checked(directory: Path, manifest_digest: bytes, compute: Compute, dtype: str) -> SharedBase:
    """A base model whose files had the right digests and stayed as they were until they were in memory."""
    before = stamps(directory)
    verify_model(directory, manifest_digest)
    base = SharedBase(directory, compute, dtype)
    if stamps(directory) != before:
        raise ModelChangedError("A catalogue model's files changed while they were loaded.")
    return base


def levels(runs: Iterable[LiveRun], adapters: Adapters) -> dict[str, float]:
    """What the trainer holds now: adapters, base models, and bytes of an accelerator's memory."""
    device_bytes = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    held = sum(run.adapter is not None for run in runs)
    return {"adapters": held, "base_models": adapters.bases, "device_bytes": device_bytes}


class Adapters:
    """Brings a run's adapter to the state that its lease starts from."""

    def __init__(self, bases: Bases, checkpoints: Checkpoints, runs: Runs) -> None:
        self._bases = bases
        self._checkpoints = checkpoints
        self._runs = runs

    @property
    def bases(self) -> int:
        """How many base models are in memory."""
        return len(self._bases)

    def of(self, live: LiveRun) -> Adapter:
        """A run's adapter: fresh from its seed, or restored from the checkpoint that the lease names.

        Raises:
            ModelChangedError: the base model's files are not those that were registered.
            ArtifactError: the checkpoint cannot be opened.
        """
        if live.adapter is not None:
            return live.adapter
        lease = live.view.lease
        if lease is None or lease.resume_artifact is None:
            live.adapter = self._fresh(live.view)
            return live.adapter
        start = live.view.created.start
        fresh_optimizer = start is not None and start.artifact_id == lease.resume_artifact
        return self.loaded(live, lease.resume_artifact, lease.resume_op_seq, include_optimizer=not fresh_optimizer)

    def serving(self, live: LiveRun) -> tuple[SharedBase, str | None, int]:
        """What a run's samples are drawn with: the base model, the run's name on it (None: it is bare), and its step.

        Raises:
            ModelChangedError, ArtifactError: as for :meth:`of`.
        """
        run = live.view.created
        if not run.trainable and run.start is None:
            return self.base(live.view), None, 0
        adapter = self.of(live)
        return adapter.base, adapter.name, adapter.step

    def loaded(
        self,
        live: LiveRun,
        artifact_id: bytes,
        op_seq: int,
        *,
        include_optimizer: bool,
        manifest_digest: bytes | None = None,
    ) -> Adapter:
        """A run's adapter in the state of a checkpoint of the same tenant, whatever state it was in before.

        Raises:
            ArtifactError: it cannot be opened; the run is as it was.
            CheckpointMismatchError: it is none that fits this run; the run is as it was.
        """
        view = live.view
        digest = manifest_digest or self._runs.manifests.get((view.chain, artifact_id))
        if digest is None:
            raise OperationFailedError("The ledger knows no such checkpoint.")
        adapter = live.adapter or self._fresh(view)
        try:
            self._checkpoints.restore(
                adapter,
                view.created,
                Source(view.chain, artifact_id, digest),
                through_op_seq=op_seq,
                include_optimizer=include_optimizer,
                trusted=self._runs.artifact_keys.values(),
            )
        except BaseException:
            if live.adapter is None:
                adapter.close()
            raise
        live.adapter = adapter
        return adapter

    def _fresh(self, view: RunView) -> Adapter:
        run = view.created
        return Adapter(self.base(view), run.lora, run.optimizer, run.seed)

    def base(self, view: RunView) -> SharedBase:
        """A run's base model, in the type that its model is registered with.

        Raises:
            ModelChangedError: a file is not the one that was registered.
        """
        run = view.created
        return self._bases.get(run.manifest_digest, self._runs.dtypes.get((run.model, run.manifest_digest), "float32"))
