"""The rows of a run and its operations, and how an operation begins and ends in them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from producers.deciders.context import LIMITS
from producers.feed import Recorded
from projections.handlers.registry import View
from projections.models import Operation, Run

PENDING, COMPLETED, FAILED, CANCELLED, LOST = "pending", "completed", "failed", "cancelled", "lost"
STATE_CHANGING = frozenset({"forward_backward", "optim_step", "load_state"})


def run_of(view: View, at: Recorded, run_id: str) -> Run:
    """The row of a run, about to change."""
    view.touched.add(run_id)
    return view.session.get_one(Run, (at.chain, run_id))


def operation_of(view: View, at: Recorded, operation_id: bytes) -> Operation:
    """The row of an operation."""
    return view.session.get_one(Operation, (at.chain, operation_id.hex()))


def operations_behind(view: View, run: Run, after: int) -> list[Operation]:
    """The operations of a run after one of them, in order."""
    query = select(Operation).where(
        Operation.chain == run.chain, Operation.run_id == run.run_id, Operation.op_seq > after
    )
    return list(view.session.scalars(query.order_by(Operation.op_seq)))


def changed_the_run(operation: Operation) -> bool:
    """Whether an operation changed what its worker holds."""
    return operation.status == COMPLETED and operation.kind in STATE_CHANGING


def submit(view: View, at: Recorded, event: Any, kind: str, parameters: dict[str, Any]) -> None:
    """An operation waits."""
    run = run_of(view, at, event.run_id)
    run.last_op_seq = event.op_seq
    view.session.add(
        Operation(
            chain=at.chain,
            operation_id=event.operation_id.hex(),
            run_id=event.run_id,
            kind=kind,
            status=PENDING,
            op_seq=event.op_seq,
            generation=run.generation,
            parameters=parameters,
            cancel_requested=False,
            seq=at.seq,
            last_seq=at.seq,
            created_at=at.meta.recorded_at,
        )
    )
    view.touched.add(event.operation_id.hex())


def complete(view: View, at: Recorded, operation_id: bytes, result: dict[str, Any]) -> Operation:
    """An operation has its result."""
    operation = operation_of(view, at, operation_id)
    operation.result = result
    return finish(view, at, operation, COMPLETED)


def fail(view: View, at: Recorded, operation_id: bytes, status: str, code: str) -> None:
    """An operation ended without effect."""
    operation = operation_of(view, at, operation_id)
    operation.error = {"code": code}
    finish(view, at, operation, status)


def finish(view: View, at: Recorded, operation: Operation, status: str) -> Operation:
    """An operation has its outcome; one of a run that only samples may begin a new interval of inputs."""
    end(view, at, operation, status)
    run = run_of(view, at, operation.run_id)
    if not run.trainable:
        rested = operation.op_seq == run.last_op_seq
        if rested or operation.op_seq - run.durable_op_seq >= LIMITS.sampler_interval:
            run.durable_op_seq = operation.op_seq
    return operation


def end(view: View, at: Recorded, operation: Operation, status: str) -> None:
    """An operation waits no more."""
    operation.status = status
    operation.last_seq = at.seq
    operation.completed_at = at.meta.recorded_at
    view.touched.add(operation.operation_id)
