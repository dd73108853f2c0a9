"""What a run is between two commands, and what follows from it.

The state is bounded. ``pending`` holds at most ``Limits.unfinished_operations``, oldest first: since operations finish
strictly in order, whatever is not pending is finished or lost. Of a finished operation two things may still matter.
Did it change the adapter, the optimizer or the gradient after the newest durable state (then a new lease would lose
it, or must compute it again)? Those stand in ``undurable``, which each durable state empties. And was it finished (so
that its cancellation gets a plain answer)? The newest ``Limits.remembered_operations`` ids stand in ``finished``; an
older one is answered with ``unknown_operation``. Redelivered commands need no memory here: the reply to every command
id is kept. Of a run's checkpoints the newest ``Limits.remembered_checkpoints`` are known; ``forgot_checkpoints`` says
that there were more, so that one which is not known may still exist.

A durable state is a checkpoint with its optimizer, saved, or loaded as a whole: a worker that resumed from anything
less would go on from another state than the one that was acknowledged. Or it is the start of the run: the fresh
adapter, or the weights of the checkpoint that the run begins from, with a fresh optimizer. A run that only samples
never changes, so its start stays the durable state of every moment; how far that reaches is moved up as its
operations finish, because a new interval of inputs begins there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from producers.deciders.run.parts import (
    FORWARD_BACKWARD,
    FRESH,
    LOAD_STATE,
    OPTIM_STEP,
    Change,
    Checkpoint,
    Durable,
    Interval,
    Operation,
)


@dataclass(frozen=True, slots=True)
class RunState:
    """A run. ``lease_epoch`` 0 means that nobody has held it yet.

    ``accumulation`` is the exact number of batches for a step (None: any), ``sealed`` whether its inputs are kept until
    nothing can need them, ``intervals`` those whose keys exist. While ``replaying``, the worker computes again what
    is not durable.
    """

    run_id: str
    learning_rate: float
    max_steps: int | None
    max_grad_norm: float | None = None
    accumulation: int | None = None
    sealed: bool = False
    trainable: bool = True
    closed: bool = False
    generation: int = 0
    lease_epoch: int = 0
    worker: str = ""
    replaying: bool = False
    step: int = 0
    digest: bytes | None = None
    last_op_seq: int = 0
    durable: Durable = FRESH
    undurable: tuple[Change, ...] = ()
    pending: tuple[Operation, ...] = ()
    finished: tuple[bytes, ...] = ()
    intervals: tuple[Interval, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    forgot_checkpoints: bool = False
    exports: tuple[bytes, ...] = ()
    exported: tuple[bytes, ...] = ()

    def operation(self, operation_id: bytes) -> Operation | None:
        """The pending operation of that id."""
        return next((op for op in self.pending if op.operation_id == operation_id), None)

    def accumulated(self) -> int:
        """How many batches' gradients are accumulated: those since the last applied step or load."""
        return _trailing_batches(change.kind for change in reversed(self.undurable))

    def accumulated_ahead(self) -> int:
        """The same once all pending operations are done."""
        kinds = [op.kind for op in self.pending]
        moves = _trailing_batches(reversed(kinds))
        return moves if OPTIM_STEP in kinds or LOAD_STATE in kinds else moves + self.accumulated()

    def steps_ahead(self) -> int:
        """The step once all pending operations are done."""
        step = self.step
        for operation in self.pending:
            if operation.kind == OPTIM_STEP:
                step += 1
            elif operation.kind == LOAD_STATE and operation.step is not None:
                step = operation.step
        return step

    def idle(self) -> bool:
        """Whether the run is closed with nothing left to do: then nobody works on it any more."""
        return self.closed and not self.pending and not self.replaying

    def covered(self, interval: Interval) -> bool:
        """Whether nothing can need an interval's inputs again: a durable state came after all of them.

        The interval that inputs are sealed under now never is, unless no more can come.
        """
        if self.idle():
            return True
        return interval.number < self.durable.op_seq and interval.last_op_seq <= self.durable.op_seq

    def checkpoint(self, artifact: bytes) -> Checkpoint | None:
        """A checkpoint that this run saved, as far as it is remembered."""
        return next((held for held in self.checkpoints if held.artifact == artifact), None)

    def rests_on(self, artifact: bytes) -> bool:
        """Whether a checkpoint is needed: to resume from, or for a load that is queued or may have to be done again."""
        if self.idle():
            return False
        loads = [load.artifact for load in self.undurable] + [load.artifact for load in self.pending]
        return artifact == self.durable.artifact or artifact in loads


def _trailing_batches(kinds: Iterator[str]) -> int:
    """Batches since the last step or load, of kinds that come newest first."""
    count = 0
    for kind in kinds:
        if kind in (OPTIM_STEP, LOAD_STATE):
            break
        count += kind == FORWARD_BACKWARD
    return count
