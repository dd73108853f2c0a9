"""Operations that end without effect: the code that is reported, and what may be logged of it."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

import structlog
import torch
from tensorguard.errors import TensorGuardError

from producers.deciders.values import FAILURES
from schemas import commands as c

if TYPE_CHECKING:
    from processors.trainer.live import LiveRun
    from processors.trainer.runs import Pending
    from schemas.base import Command

INTERNAL, OUT_OF_MEMORY, CANCELLED = "internal_error", "out_of_memory", "cancelled"
WORKER_KILLED = "worker_killed"
_ALLOCATION_FAILED = ("can't allocate memory", "out of memory")
log = structlog.get_logger(__name__)


def failure(live: LiveRun, pending: Pending, code: str) -> Command:
    """What to report of an operation that ended without effect."""
    return c.FailOperation(live.view.run_id, pending.operation_id, live.lease_epoch, code)


def failure_of(live: LiveRun, pending: Pending, error: Exception) -> Command:
    """What to report of an operation that an error ended; the error is logged."""
    code = failure_code(error)
    log.warning("operation_failed", run_id=live.view.run_id, op_seq=pending.op_seq, code=code, at=place_of(error))
    return failure(live, pending, code)


def failure_code(error: Exception) -> str:
    """The code that an error is reported by."""
    if isinstance(error, TensorGuardError):
        return error.code if error.code in FAILURES else INTERNAL
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION_FAILED):
        return OUT_OF_MEMORY
    return INTERNAL


def place_of(error: Exception) -> str:
    """Type and innermost line of an error; its text may hold what must not be logged."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else "unknown"  # noqa: PTH119
    return f"{type(error).__name__} at {where}"
