"""Checkpoints of the worker's own: copied by the thread that executes, sealed and written by a second one."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from processors.trainer.checkpoints import take_image
from processors.trainer.operations import ARTIFACT_ID_BYTES
from processors.trainer.outbox import outcome_of
from processors.trainer.watch import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from processors.trainer.checkpoints import Checkpoints, Image
    from processors.trainer.live import LiveRun
    from processors.trainer.outbox import Outbox
    from processors.trainer.settings import Settings
    from processors.trainer.watch import Watch

log = structlog.get_logger(__name__)


class AutomaticCheckpoints:
    """Makes runs durable in the background. ``clock`` gives microseconds, ``seconds`` is a steady clock."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        outbox: Outbox,
        watch: Watch,
        settings: Settings,
        clock: Callable[[], int],
        seconds: Callable[[], float],
    ) -> None:
        self._checkpoints = checkpoints
        self._outbox = outbox
        self._watch = watch
        self._settings = settings
        self._clock = clock
        self._seconds = seconds
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    def start_due(self, runs: Iterable[LiveRun]) -> None:
        """Also of runs without a next operation: a client that pauses shall not lose its last steps."""
        for live in runs:
            if self._due(live):
                self.start(live)

    def _due(self, live: LiveRun) -> bool:
        if live.adapter is None or not live.dirty or live.writing:
            return False
        steps = live.adapter.step - live.imaged_step
        return (
            steps >= self._settings.checkpoint_steps
            or self._seconds() - live.imaged_at >= self._settings.checkpoint_seconds
        )

    def imaged(self, live: LiveRun) -> None:
        """The run's state as it is now is, or is about to be, in a checkpoint."""
        adapter = live.adapter
        if adapter is not None:
            live.imaged, live.imaged_step, live.imaged_at = adapter.through_op_seq, adapter.step, self._seconds()

    def start(self, live: LiveRun) -> None:
        """Copy a run's state, and have it written."""
        if live.adapter is None:
            return
        try:
            image = take_image(
                live.adapter,
                live.view.created,
                tenant=live.view.chain,
                artifact_id=os.urandom(ARTIFACT_ID_BYTES),
                created_at=self._clock(),
                lease_epoch=live.lease_epoch,
                include_optimizer=True,
            )
        except (MemoryError, RuntimeError) as error:
            log.exception("checkpoint_failed", run_id=live.view.run_id, error=type(error).__name__)
            live.imaged_step, live.imaged_at = live.adapter.step, self._seconds()
            return
        self.imaged(live)
        live.writing = True
        self._writer.submit(self._write, live, image)

    def _write(self, live: LiveRun, image: Image) -> None:
        """In the second thread: seal, store, read back, report."""
        try:
            with self._watch.timed(CHECKPOINT):
                command = self._checkpoints.save(image)
            if live.imaged > command.through_op_seq:
                # A named checkpoint or a load overtook it: the ledger would refuse what is older.
                self._checkpoints.delete(live.view.chain, command.artifact_id)
            else:
                self._outbox.send(outcome_of(live, command, command.artifact_id))
        except (TensorGuardError, OSError) as error:
            log.exception("checkpoint_failed", run_id=live.view.run_id, code=getattr(error, "code", "os_error"))
            live.imaged = min(live.imaged, live.view.durable_op_seq)
        except Exception as error:
            log.exception("checkpoint_failed", run_id=live.view.run_id, error=type(error).__name__)
            live.imaged = min(live.imaged, live.view.durable_op_seq)
        finally:
            live.writing = False

    def finish(self, runs: Iterable[LiveRun] = ()) -> None:
        """Make the last steps of runs durable, and wait for the second thread."""
        for live in runs:
            if live.dirty:
                self.start(live)
        self._writer.shutdown(wait=True)
