"""Training runs, their operations and what became durable."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from producers.feed import Recorded
from projections.handlers.registry import Handlers, View
from projections.models import Artifact, Operation, Run
from schemas import codec, events

HANDLERS = Handlers()
PENDING, COMPLETED, FAILED, CANCELLED, LOST = "pending", "completed", "failed", "cancelled", "lost"
STATE_CHANGING = frozenset({"forward_backward", "optim_step", "load_state"})


@HANDLERS.on(events.RunCreated)
def run_created(view: View, at: Recorded, event: events.RunCreated) -> None:
    """A run starts at step 0, with nothing durable yet."""
    view.session.add(
        Run(
            chain=at.chain,
            run_id=event.run_id,
            model=event.model,
            manifest_digest=event.manifest_digest.hex(),
            tokenizer_digest=event.tokenizer_digest.hex(),
            lora=codec.to_dict(event.lora) if event.lora else None,
            optimizer=codec.to_dict(event.optimizer),
            batch_size=event.batch_size,
            gradient_accumulation_steps=event.gradient_accumulation_steps,
            max_steps=event.max_steps,
            seed=event.seed,
            metadata_commitment=event.metadata_commitment.hex() if event.metadata_commitment else None,
            seq=at.seq,
            created_at=at.meta.recorded_at,
            generation=0,
            step=0,
            durable_step=0,
            durable_op_seq=0,
            last_op_seq=0,
            lease_epoch=0,
        )
    )


@HANDLERS.on(events.RunLeaseGranted)
def run_lease_granted(view: View, at: Recorded, event: events.RunLeaseGranted) -> None:
    """A worker has the run."""
    run = _run(view, at, event.run_id)
    run.lease_epoch, run.worker = event.lease_epoch, event.worker


@HANDLERS.on(events.RunRolledBack)
def run_rolled_back(view: View, at: Recorded, event: events.RunRolledBack) -> None:
    """The run stands at its last durable step; what it acknowledged after it is lost, and says so."""
    run = _run(view, at, event.run_id)
    run.generation = event.generation
    run.step = run.durable_step = event.last_durable_step
    run.durable_artifact_id = event.artifact_id.hex() if event.artifact_id else None
    run.durable_op_seq = event.lost_after_op_seq
    error = {
        "code": "operation_lost",
        "last_durable_step": event.last_durable_step,
        "artifact_id": run.durable_artifact_id,
        "generation": event.generation,
        "lost_operations": event.lost_operations,
    }
    for operation in _operations_behind(view, run, event.lost_after_op_seq, event.lost_through_op_seq):
        if operation.status == PENDING or (operation.status == COMPLETED and operation.kind in STATE_CHANGING):
            _finish(view, at, operation, LOST, error=error)


@HANDLERS.on(events.RunClosed)
def run_closed(view: View, at: Recorded, event: events.RunClosed) -> None:
    """The run takes no more operations."""
    _run(view, at, event.run_id).closed_at = at.meta.recorded_at


@HANDLERS.on(events.ForwardBackwardSubmitted)
def forward_backward_submitted(view: View, at: Recorded, event: events.ForwardBackwardSubmitted) -> None:
    """A batch waits."""
    parameters = {"commitment": event.batch_commitment.hex(), "rows": event.rows, "tokens": event.tokens}
    _submit(view, at, event, "forward_backward", parameters)


@HANDLERS.on(events.OptimStepSubmitted)
def optim_step_submitted(view: View, at: Recorded, event: events.OptimStepSubmitted) -> None:
    """A step waits."""
    _submit(view, at, event, "optim_step", {"learning_rate": event.learning_rate})


@HANDLERS.on(events.SampleSubmitted)
def sample_submitted(view: View, at: Recorded, event: events.SampleSubmitted) -> None:
    """Prompts wait."""
    parameters = {
        "commitment": event.prompts_commitment.hex(),
        "prompts": event.prompts,
        "max_tokens": event.max_tokens,
        "temperature": event.temperature,
        "top_p": event.top_p,
        "seed": event.seed,
    }
    _submit(view, at, event, "sample", parameters)


@HANDLERS.on(events.SaveStateSubmitted)
def save_state_submitted(view: View, at: Recorded, event: events.SaveStateSubmitted) -> None:
    """A checkpoint waits."""
    _submit(view, at, event, "save_state", {"name": event.name, "include_optimizer": event.include_optimizer})


@HANDLERS.on(events.LoadStateSubmitted)
def load_state_submitted(view: View, at: Recorded, event: events.LoadStateSubmitted) -> None:
    """A load waits."""
    parameters = {"artifact_id": event.artifact_id.hex(), "include_optimizer": event.include_optimizer}
    _submit(view, at, event, "load_state", parameters)


@HANDLERS.on(events.ForwardBackwardCompleted)
def forward_backward_completed(view: View, at: Recorded, event: events.ForwardBackwardCompleted) -> None:
    """A gradient is accumulated."""
    result = {"loss": event.loss, "grad_norm": event.grad_norm, "tokens_processed": event.tokens}
    _complete(view, at, event.operation_id, result)


@HANDLERS.on(events.StepApplied)
def step_applied(view: View, at: Recorded, event: events.StepApplied) -> None:
    """The adapter moved."""
    _run(view, at, event.run_id).step = event.step
    result = {
        "step": event.step,
        "learning_rate": event.learning_rate,
        "adapter_digest": event.adapter_digest.hex(),
    }
    _complete(view, at, event.operation_id, result)


@HANDLERS.on(events.SampleCompleted)
def sample_completed(view: View, at: Recorded, event: events.SampleCompleted) -> None:
    """Completions exist beside the ledger."""
    result = {
        "commitment": event.completions_commitment.hex(),
        "tokens_generated": event.tokens_generated,
        "model_step": event.step,
    }
    _complete(view, at, event.operation_id, result)


@HANDLERS.on(events.CheckpointSaved)
def checkpoint_saved(view: View, at: Recorded, event: events.CheckpointSaved) -> None:
    """A checkpoint is durable; without an operation it is an automatic one. A run resumes from whole ones only."""
    artifact_id = event.artifact_id.hex()
    view.session.add(
        Artifact(
            chain=at.chain,
            artifact_id=artifact_id,
            run_id=event.run_id,
            operation_id=event.operation_id.hex() if event.operation_id else None,
            name=event.name,
            step=event.step,
            through_op_seq=event.through_op_seq,
            adapter_digest=event.adapter_digest.hex(),
            content_hash=event.content_hash.hex(),
            manifest_digest=event.manifest_digest.hex(),
            size_bytes=event.size_bytes,
            wrapping_key_id=event.wrapping_key_id,
            includes_optimizer=event.includes_optimizer,
            seq=at.seq,
            created_at=at.meta.recorded_at,
        )
    )
    if event.includes_optimizer:
        _now_durable(_run(view, at, event.run_id), event.through_op_seq, event.step, artifact_id)
    if event.operation_id is not None:
        _complete(view, at, event.operation_id, {"artifact_id": artifact_id})


@HANDLERS.on(events.CheckpointLoaded)
def checkpoint_loaded(view: View, at: Recorded, event: events.CheckpointLoaded) -> None:
    """The run's state is a checkpoint's; loaded whole, it is as durable as that."""
    run = _run(view, at, event.run_id)
    artifact_id = event.artifact_id.hex()
    result = {"artifact_id": artifact_id, "step": event.step, "adapter_digest": event.adapter_digest.hex()}
    operation = _complete(view, at, event.operation_id, result)
    run.step = event.step
    if operation.parameters["include_optimizer"]:
        _now_durable(run, operation.op_seq, event.step, artifact_id)


@HANDLERS.on(events.OperationFailed)
def operation_failed(view: View, at: Recorded, event: events.OperationFailed) -> None:
    """An operation ended without effect."""
    _finish(view, at, _operation(view, at, event.operation_id), FAILED, error={"code": event.code})


@HANDLERS.on(events.OperationCancelled)
def operation_cancelled(view: View, at: Recorded, event: events.OperationCancelled) -> None:
    """An operation was dropped before it started."""
    _finish(view, at, _operation(view, at, event.operation_id), CANCELLED, error={"code": "cancelled"})


@HANDLERS.on(events.CancellationRequested)
def cancellation_requested(view: View, at: Recorded, event: events.CancellationRequested) -> None:
    """The worker decides whether it still can."""
    operation = _operation(view, at, event.operation_id)
    operation.cancel_requested = True
    operation.last_seq = at.seq


def _run(view: View, at: Recorded, run_id: str) -> Run:
    view.touched.add(run_id)
    return view.session.get_one(Run, (at.chain, run_id))


def _operation(view: View, at: Recorded, operation_id: bytes) -> Operation:
    return view.session.get_one(Operation, (at.chain, operation_id.hex()))


def _operations_behind(view: View, run: Run, after: int, through: int) -> list[Operation]:
    query = select(Operation).where(
        Operation.chain == run.chain,
        Operation.run_id == run.run_id,
        Operation.op_seq > after,
        Operation.op_seq <= through,
    )
    return list(view.session.scalars(query.order_by(Operation.op_seq)))


def _submit(view: View, at: Recorded, event: Any, kind: str, parameters: dict[str, Any]) -> None:
    run = _run(view, at, event.run_id)
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


def _complete(view: View, at: Recorded, operation_id: bytes, result: dict[str, Any]) -> Operation:
    return _finish(view, at, _operation(view, at, operation_id), COMPLETED, result=result)


def _finish(
    view: View,
    at: Recorded,
    operation: Operation,
    status: str,
    *,
    result: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
) -> Operation:
    operation.status = status
    operation.result, operation.error = result, error
    operation.last_seq = at.seq
    operation.completed_at = at.meta.recorded_at
    view.touched.add(operation.operation_id)
    return operation


def _now_durable(run: Run, op_seq: int, step: int, artifact_id: str) -> None:
    """The newest durable state wins; of two at the same operation, the later record."""
    if op_seq >= run.durable_op_seq:
        run.durable_op_seq, run.durable_step, run.durable_artifact_id = op_seq, step, artifact_id
