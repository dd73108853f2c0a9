"""Training runs: what they are, who works on them, and what that loses or repeats."""

from __future__ import annotations

from typing import Any

from producers.feed import Recorded
from projections.handlers.registry import Handlers, View
from projections.handlers.rows import LOST, PENDING, changed_the_run, end, operations_behind, run_of
from projections.models import Run
from schemas import codec, events

HANDLERS = Handlers()
SEALED = "sealed"


@HANDLERS.on(events.RunCreated)
def run_created(view: View, at: Recorded, event: events.RunCreated) -> None:
    """A run begins: fresh, or from the weights of a checkpoint."""
    start = event.start
    step = start.step if start else 0
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
            batch_retention=event.batch_retention,
            trainable=event.trainable,
            start_artifact_id=start.artifact_id.hex() if start else None,
            start_step=start.step if start else None,
            seq=at.seq,
            created_at=at.meta.recorded_at,
            generation=0,
            step=step,
            durable_step=step,
            durable_artifact_id=start.artifact_id.hex() if start else None,
            durable_op_seq=0,
            last_op_seq=0,
            lease_epoch=0,
            replaying=False,
            replays=0,
            batch_keys_destroyed=0,
        )
    )


@HANDLERS.on(events.RunLeaseGranted)
def run_lease_granted(view: View, at: Recorded, event: events.RunLeaseGranted) -> None:
    """A worker has the run; of a sealed one it first computes again what is not durable."""
    run = run_of(view, at, event.run_id)
    run.lease_epoch, run.worker = event.lease_epoch, event.worker
    undurable = operations_behind(view, run, run.durable_op_seq) if run.batch_retention == SEALED else []
    run.replaying = any(map(changed_the_run, undurable))


@HANDLERS.on(events.RunReplayed)
def run_replayed(view: View, at: Recorded, event: events.RunReplayed) -> None:
    """The run stands again where it stood."""
    run = run_of(view, at, event.run_id)
    run.replaying = False
    run.replays += 1
    run.last_replay = {
        "seq": at.seq,
        "recorded_at": at.meta.recorded_at,
        "through_op_seq": event.through_op_seq,
        "steps": event.steps,
        "adapter_digest": event.adapter_digest.hex(),
        "identical": event.identical,
        "differing_step": event.differing_step,
        "plan": codec.to_dict(event.plan) if event.plan else None,
    }


@HANDLERS.on(events.RunRolledBack)
def run_rolled_back(view: View, at: Recorded, event: events.RunRolledBack) -> None:
    """The run stands at its last durable step; what it acknowledged after it is lost, and says so."""
    run = run_of(view, at, event.run_id)
    run.generation = event.generation
    run.replaying = False
    run.step = run.durable_step = event.last_durable_step
    run.durable_artifact_id = event.artifact_id.hex() if event.artifact_id else None
    run.durable_op_seq = event.lost_after_op_seq
    for operation in operations_behind(view, run, event.lost_after_op_seq):
        if operation.status == PENDING or changed_the_run(operation):
            operation.result, operation.error = None, _loss(event)
            end(view, at, operation, LOST)


def _loss(event: events.RunRolledBack) -> dict[str, Any]:
    cause = {"cause_code": event.cause_code} if event.cause_code else {}
    return {
        "code": "operation_lost",
        "last_durable_step": event.last_durable_step,
        "artifact_id": event.artifact_id.hex() if event.artifact_id else None,
        "generation": event.generation,
        "lost_operations": event.lost_operations,
        **cause,
    }


@HANDLERS.on(events.RunClosed)
def run_closed(view: View, at: Recorded, event: events.RunClosed) -> None:
    """The run takes no more operations."""
    run_of(view, at, event.run_id).closed_at = at.meta.recorded_at


@HANDLERS.on(events.BatchKeyDestroyed)
def batch_key_destroyed(view: View, at: Recorded, event: events.BatchKeyDestroyed) -> None:
    """The inputs of one more interval are gone for good."""
    run_of(view, at, event.run_id).batch_keys_destroyed += 1
