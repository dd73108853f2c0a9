"""What a run's state is made of: small frozen values."""

from __future__ import annotations

from dataclasses import dataclass

FORWARD_BACKWARD, OPTIM_STEP, FORWARD, SAMPLE = "forward_backward", "optim_step", "forward", "sample"
SAVE_STATE, LOAD_STATE = "save_state", "load_state"


@dataclass(frozen=True, slots=True)
class Operation:
    """An accepted operation that has no outcome yet, with what its outcome must agree with.

    ``step`` is the one that a load leads to, ``max_grad_norm`` the clipping that a step asked for.
    """

    operation_id: bytes
    op_seq: int
    kind: str
    cancelling: bool = False
    learning_rate: float | None = None
    max_grad_norm: float | None = None
    name: str | None = None
    artifact: bytes | None = None
    optimizer: bool = False
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A completed operation that changed the run's state; ``step`` is the run's step after it.

    ``artifact`` is the checkpoint that a load took: to compute the state again, it is needed again. ``digest`` is the
    adapter's after a step or a load, where the ledger knows it.
    """

    op_seq: int
    kind: str
    step: int
    artifact: bytes | None = None
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Durable:
    """The newest state that a new lease can resume from; without an artifact it is the fresh adapter.

    ``digest`` is the adapter's, where the ledger knows it.
    """

    artifact: bytes | None = None
    step: int = 0
    op_seq: int = 0
    digest: bytes | None = None


FRESH = Durable()


@dataclass(frozen=True, slots=True)
class Interval:
    """The inputs under one key: those submitted while operation ``number`` was the newest durable one.

    ``last_op_seq`` is the last of them that a state of the run may still rest on.
    """

    number: int
    last_op_seq: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that the run saved and that is not deleted; an automatic one has no name."""

    artifact: bytes
    automatic: bool
    deleting: bool = False
