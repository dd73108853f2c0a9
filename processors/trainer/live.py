"""Runs that this worker holds: their adapters on shared bases, made when they are first needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from processors.trainer.adapter import Adapter
from processors.trainer.checkpoints import Checkpoints, Source
from processors.trainer.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from processors.placement.standing import Standing
    from processors.trainer.base_model import SharedBase
    from processors.trainer.bases import Bases, Key
    from processors.trainer.replay import Replay
    from processors.trainer.runs import Pending, Runs, RunView


@dataclass(slots=True)
class LiveRun:
    """A run under a lease of ours.

    ``executed`` is the last operation that was executed or began; ``imaged`` the ``through_op_seq`` of the newest
    image that a checkpoint was or is made from; ``imaged_step`` and ``imaged_at`` its step and time (seconds), and
    ``used_at`` the time of the newest work. ``replay`` is what has to be done again before anything else; ``stopped``
    says that it cannot, until the ledger has said so too.
    """

    view: RunView
    lease_epoch: int
    executed: int
    imaged: int
    imaged_step: int
    imaged_at: float
    used_at: float = 0.0
    adapter: Adapter | None = None
    writing: bool = False
    replay: Replay | None = None
    stopped: bool = False

    def next_operation(self) -> Pending | None:
        """The operation whose turn it is."""
        if self.stopped or self.replay is not None:
            return None
        return next((op for op in self.view.pending.values() if op.op_seq > self.executed), None)

    @property
    def wanted(self) -> bool:
        """Whether anything may still come of it."""
        return not self.view.closed or bool(self.view.pending)

    @property
    def ready(self) -> bool:
        """Whether there is anything to execute."""
        return not self.stopped and (self.replay is not None or self.next_operation() is not None)

    @property
    def dirty(self) -> bool:
        """Whether adapter or optimizer moved after the newest image, and the run may be saved as it is."""
        moved = self.adapter is not None and self.adapter.through_op_seq > self.imaged
        return moved and self.replay is None and not self.stopped

    @property
    def movable(self) -> bool:
        """Whether the adapter can leave memory and come back as it is: nothing waits for it, and all of it is durable.

        An accumulated gradient is in no checkpoint.
        """
        adapter = self.adapter
        if adapter is None or adapter.calls or self.writing or self.stopped or self.view.pending or self.replay:
            return False
        return adapter.through_op_seq <= self.view.durable_op_seq

    def free(self) -> None:
        """Give the adapter's memory back."""
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            adapter.close()


def levels(runs: Iterable[LiveRun], adapters: Adapters) -> dict[str, float]:
    """What the trainer holds now: adapters, base models, and bytes of an accelerator's memory."""
    device_bytes = torch.cuda.memory_allocated() if torch.cuda.is_available() else 0
    held = sum(run.adapter is not None for run in runs)
    return {"adapters": held, "base_models": adapters.bases, "device_bytes": device_bytes}


def standing_of(before: Standing, runs: Iterable[LiveRun], adapters: Adapters) -> Standing:
    """How a trainer stands now, by the runs that it holds; what does not change is as it was ``before``."""
    held, bases = list(runs), adapters.sizes()
    used = sum(bases.values()) + sum(run.adapter.nbytes for run in held if run.adapter is not None)
    return replace(before, bases=bases, used=used, runs=sum(run.wanted for run in held))


class Adapters:
    """Brings a run's adapter to its newest durable state. ``open_runs`` gives the runs whose base model is wanted."""

    def __init__(
        self, bases: Bases, checkpoints: Checkpoints, runs: Runs, open_runs: Callable[[], Iterable[RunView]]
    ) -> None:
        self._bases = bases
        self._checkpoints = checkpoints
        self._runs = runs
        self._open_runs = open_runs

    @property
    def bases(self) -> int:
        """How many base models are in memory."""
        return len(self._bases)

    def sizes(self) -> dict[str, int]:
        """The bytes of each base model in memory, by its manifest digest in hex."""
        return self._bases.sizes()

    def of(self, live: LiveRun) -> Adapter:
        """A run's adapter: as it is in memory, else restored from the newest durable state, else fresh from its seed.

        Raises:
            ModelChangedError: the base model's files are not those that were registered.
            ArtifactError: the checkpoint cannot be opened.
        """
        if live.adapter is not None:
            return live.adapter
        view, start = live.view, live.view.created.start
        if view.durable is None:
            live.adapter = self._fresh(view)
            return live.adapter
        if start is not None and (view.durable, view.durable_op_seq) == (start.artifact_id, 0):
            return self.loaded(live, view.durable, 0, include_optimizer=False, manifest_digest=start.manifest_digest)
        return self.loaded(live, view.durable, view.durable_op_seq, include_optimizer=True)

    def serving(self, live: LiveRun) -> tuple[SharedBase, str | None, int]:
        """What a run's samples are drawn with: the base model, the run's name on it (None: it is bare), and its step.

        Raises:
            ModelChangedError, ArtifactError: as for :meth:`of`.
        """
        if live.view.bare:
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
        wanted = {self._key(other) for other in self._open_runs()}
        return self._bases.get(*self._key(view), wanted)

    def _key(self, view: RunView) -> Key:
        run = view.created
        return run.manifest_digest, self._runs.dtypes.get((run.model, run.manifest_digest), "float32")
