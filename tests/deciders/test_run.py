"""A run as given, when, then: what it accepts, all that it refuses, and what a change of worker loses."""

from __future__ import annotations

from typing import Any

import pytest

from producers.deciders.context import CODES, LIMITS, Limits, Rejected
from producers.deciders.run import RunState
from schemas import commands as c
from schemas import events as e
from tests.deciders.examples import ARTIFACT, OP, decided, fold, make

CREATED = make(e.RunCreated)
LEASED = make(e.RunLeaseGranted)
FIRST, SECOND, THIRD = (bytes([n]) * 16 for n in (1, 2, 3))


def op(number: int) -> dict[str, Any]:
    return {"operation_id": bytes([number]) * 16, "op_seq": number}


BATCH = make(e.ForwardBackwardSubmitted, **op(1))
BATCH_DONE = make(e.ForwardBackwardCompleted, **op(1))
STEP = make(e.OptimStepSubmitted, **op(2), learning_rate=None)
STEP_DONE = make(e.StepApplied, **op(2))
SAMPLE = make(e.SampleSubmitted, **op(1))
SAVE = make(e.SaveStateSubmitted, **op(3))
SAVED = make(e.CheckpointSaved, **op(3), through_op_seq=2)
LOAD = make(e.LoadStateSubmitted, **op(3))
ONE_STEP = (CREATED, LEASED, BATCH, BATCH_DONE, STEP, STEP_DONE)
AUTOMATIC = {"operation_id": None, "name": None, "through_op_seq": 2}

ACCEPTED: dict[str, tuple[tuple[Any, ...], Any, tuple[Any, ...]]] = {
    "a run is created": ((), make(c.CreateRun), (CREATED,)),
    "a batch is queued": (
        (CREATED,),
        make(c.SubmitForwardBackward),
        (make(e.ForwardBackwardSubmitted),),
    ),
    "a batch is queued by a client that knows the generation": (
        (CREATED,),
        make(c.SubmitForwardBackward, generation=0),
        (make(e.ForwardBackwardSubmitted),),
    ),
    "a step is queued behind a pending batch": (
        (CREATED, BATCH),
        make(c.SubmitOptimStep, learning_rate=None),
        (make(e.OptimStepSubmitted, op_seq=2, learning_rate=None),),
    ),
    "a sample is queued": ((CREATED,), make(c.SubmitSample), (make(e.SampleSubmitted),)),
    "a checkpoint is asked for": ((CREATED,), make(c.SubmitSaveState), (make(e.SaveStateSubmitted),)),
    "a checkpoint shall be loaded": ((CREATED,), make(c.SubmitLoadState), (make(e.LoadStateSubmitted),)),
    "a batch's gradient is accumulated": (
        (CREATED, LEASED, BATCH),
        make(c.CompleteForwardBackward, **op(1)),
        (BATCH_DONE,),
    ),
    "a step is applied": (ONE_STEP[:-1], make(c.RecordStep, **op(2)), (STEP_DONE,)),
    "a step is applied at the learning rate it was asked for at": (
        (*ONE_STEP[:-2], make(e.OptimStepSubmitted, **op(2), learning_rate=0.5)),
        make(c.RecordStep, **op(2), learning_rate=0.5),
        (make(e.StepApplied, **op(2), learning_rate=0.5),),
    ),
    "a sample is completed": (
        (CREATED, LEASED, SAMPLE),
        make(c.CompleteSample, **op(1), step=0),
        (make(e.SampleCompleted, **op(1), step=0),),
    ),
    "a named checkpoint is saved": ((*ONE_STEP, SAVE), make(c.RecordCheckpoint, **op(3), through_op_seq=2), (SAVED,)),
    "a checkpoint of its own is saved by the worker": (
        ONE_STEP,
        make(c.RecordCheckpoint, **AUTOMATIC),
        (make(e.CheckpointSaved, **AUTOMATIC),),
    ),
    "a checkpoint of a fresh run is saved": (
        (CREATED, LEASED, make(e.SaveStateSubmitted, **op(1))),
        make(c.RecordCheckpoint, **op(1), step=0),
        (make(e.CheckpointSaved, **op(1), step=0),),
    ),
    "a checkpoint that is overtaken by a batch is saved": (
        (*ONE_STEP, make(e.ForwardBackwardSubmitted, **op(3)), make(e.ForwardBackwardCompleted, **op(3))),
        make(c.RecordCheckpoint, **AUTOMATIC),
        (make(e.CheckpointSaved, **AUTOMATIC),),
    ),
    "a checkpoint is loaded": (
        (*ONE_STEP, LOAD),
        make(c.RecordCheckpointLoaded, **op(3), step=7),
        (make(e.CheckpointLoaded, **op(3), step=7),),
    ),
    "an operation fails": (
        (CREATED, LEASED, BATCH),
        make(c.FailOperation, **op(1)),
        (make(e.OperationFailed, **op(1)),),
    ),
    "a cancellation is requested": (
        (CREATED, BATCH),
        make(c.RequestCancellation, **op(1)),
        (make(e.CancellationRequested, **op(1)),),
    ),
    "a cancelled operation is dropped": (
        (CREATED, LEASED, BATCH, make(e.CancellationRequested, **op(1))),
        make(c.FailOperation, **op(1), code="cancelled"),
        (make(e.OperationCancelled, **op(1)),),
    ),
    "an operation whose cancellation comes too late completes": (
        (CREATED, LEASED, BATCH, make(e.CancellationRequested, **op(1))),
        make(c.CompleteForwardBackward, **op(1)),
        (BATCH_DONE,),
    ),
    "a run is closed": ((CREATED,), make(c.CloseRun), (make(e.RunClosed),)),
    "what was queued before the run was closed completes": (
        (CREATED, LEASED, BATCH, make(e.RunClosed)),
        make(c.CompleteForwardBackward, **op(1)),
        (BATCH_DONE,),
    ),
}

FULL = tuple(
    make(e.SampleSubmitted, operation_id=n.to_bytes(16, "big"), op_seq=n)
    for n in range(1, LIMITS.unfinished_operations + 1)
)
TWO_BATCHES = (CREATED, LEASED, BATCH, make(e.ForwardBackwardSubmitted, **op(2)))
LAST_STEP = (make(e.RunCreated, max_steps=1), LEASED, BATCH, BATCH_DONE, STEP, STEP_DONE)
SECOND_LEASE = make(e.RunLeaseGranted, lease_epoch=2)
ROLLED_BACK = make(
    e.RunRolledBack, generation=1, last_durable_step=0, artifact_id=None, lost_after_op_seq=0, lost_through_op_seq=2,
    lost_operations=2,
)  # fmt: skip
BOUND = make(e.RunLeaseGranted, worker=f"{'ab' * 32}/trainer-1")

REJECTED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "a run id that is taken": ((CREATED,), make(c.CreateRun), "already_exists"),
    "an unknown run": ((), make(c.SubmitSample), "not_found"),
    "closed: a batch": ((CREATED, make(e.RunClosed)), make(c.SubmitForwardBackward), "run_closed"),
    "closed: a step": ((CREATED, BATCH, make(e.RunClosed)), make(c.SubmitOptimStep), "run_closed"),
    "closed: a sample": ((CREATED, make(e.RunClosed)), make(c.SubmitSample), "run_closed"),
    "closed: a checkpoint": ((CREATED, make(e.RunClosed)), make(c.SubmitSaveState), "run_closed"),
    "closed: a load": ((CREATED, make(e.RunClosed)), make(c.SubmitLoadState), "run_closed"),
    "closed: again": ((CREATED, make(e.RunClosed)), make(c.CloseRun), "run_closed"),
    "a client that has not seen the loss": (
        (*ONE_STEP, SECOND_LEASE, ROLLED_BACK),
        make(c.SubmitSample, generation=0),
        "run_rolled_back",
    ),
    "a generation that does not exist yet": ((CREATED,), make(c.SubmitSample, generation=1), "run_rolled_back"),
    "quota: too many operations wait": ((CREATED, *FULL), make(c.SubmitSample), "quota_exceeded"),
    "an operation id that waits": (
        (CREATED, make(e.SampleSubmitted, operation_id=OP)),
        make(c.SubmitSample),
        "already_exists",
    ),
    "an operation id that finished": (
        (CREATED, LEASED, make(e.SampleSubmitted, operation_id=OP), make(e.SampleCompleted, operation_id=OP)),
        make(c.SubmitSample),
        "already_exists",
    ),
    "a step without a batch": ((CREATED,), make(c.SubmitOptimStep), "nothing_to_apply"),
    "a step right behind a pending step": ((CREATED, BATCH, STEP), make(c.SubmitOptimStep), "nothing_to_apply"),
    "a step right behind an applied one": (ONE_STEP, make(c.SubmitOptimStep), "nothing_to_apply"),
    "a step behind a load, which drops the gradient": (
        (CREATED, BATCH, make(e.LoadStateSubmitted, **op(2))),
        make(c.SubmitOptimStep),
        "nothing_to_apply",
    ),
    "a step behind a batch that failed": (
        (CREATED, LEASED, BATCH, make(e.OperationFailed, **op(1))),
        make(c.SubmitOptimStep),
        "nothing_to_apply",
    ),
    "a step past the last one": (
        (*LAST_STEP, make(e.ForwardBackwardSubmitted, **op(3))),
        make(c.SubmitOptimStep),
        "max_steps_reached",
    ),
    "a step past the last one, which is pending": (
        (*LAST_STEP[:-1], make(e.ForwardBackwardSubmitted, **op(3))),
        make(c.SubmitOptimStep),
        "max_steps_reached",
    ),
    "an outcome without a lease": ((CREATED, BATCH), make(c.CompleteForwardBackward, **op(1)), "no_lease"),
    "a checkpoint without a lease": ((CREATED,), make(c.RecordCheckpoint, **AUTOMATIC), "no_lease"),
    "stale lease: a batch": (
        (CREATED, LEASED, SECOND_LEASE, BATCH),
        make(c.CompleteForwardBackward, **op(1)),
        "stale_lease",
    ),
    "stale lease: a step": ((*ONE_STEP[:-1], SECOND_LEASE), make(c.RecordStep, **op(2)), "stale_lease"),
    "stale lease: a sample": (
        (CREATED, LEASED, SECOND_LEASE, SAMPLE),
        make(c.CompleteSample, **op(1)),
        "stale_lease",
    ),
    "stale lease: a checkpoint": ((*ONE_STEP, SECOND_LEASE), make(c.RecordCheckpoint, **AUTOMATIC), "stale_lease"),
    "stale lease: a load": ((*ONE_STEP, LOAD, SECOND_LEASE), make(c.RecordCheckpointLoaded, **op(3)), "stale_lease"),
    "stale lease: a failure": ((CREATED, LEASED, SECOND_LEASE, BATCH), make(c.FailOperation, **op(1)), "stale_lease"),
    "a lease of the future": (
        (CREATED, LEASED, BATCH),
        make(c.CompleteForwardBackward, **op(1), lease_epoch=2),
        "stale_lease",
    ),
    "wrong worker": ((CREATED, BOUND, BATCH), make(c.CompleteForwardBackward, **op(1)), "wrong_worker"),
    "an unknown operation": (
        (CREATED, LEASED),
        make(c.CompleteForwardBackward, **op(1)),
        "unknown_operation",
    ),
    "a lost operation": (
        (CREATED, LEASED, BATCH, SECOND_LEASE, ROLLED_BACK),
        make(c.CompleteForwardBackward, **op(1), lease_epoch=2),
        "unknown_operation",
    ),
    "an operation that completed": (ONE_STEP, make(c.RecordStep, **op(2)), "operation_finished"),
    "an operation that failed": (
        (CREATED, LEASED, BATCH, make(e.OperationFailed, **op(1))),
        make(c.CompleteForwardBackward, **op(1)),
        "operation_finished",
    ),
    "an operation that was cancelled": (
        (CREATED, LEASED, BATCH, make(e.OperationCancelled, **op(1))),
        make(c.CompleteForwardBackward, **op(1)),
        "operation_finished",
    ),
    "a sample's outcome for a batch": (
        (CREATED, LEASED, BATCH),
        make(c.CompleteSample, **op(1)),
        "wrong_operation_kind",
    ),
    "a batch's outcome for a sample": (
        (CREATED, LEASED, SAMPLE),
        make(c.CompleteForwardBackward, **op(1)),
        "wrong_operation_kind",
    ),
    "a checkpoint for a load": (
        (*ONE_STEP, LOAD),
        make(c.RecordCheckpoint, **op(3)),
        "wrong_operation_kind",
    ),
    "an outcome before an earlier operation's": (
        TWO_BATCHES,
        make(c.CompleteForwardBackward, **op(2)),
        "out_of_order",
    ),
    "a failure before an earlier operation's outcome": (
        TWO_BATCHES,
        make(c.FailOperation, **op(2)),
        "out_of_order",
    ),
    "a step that skips one": (ONE_STEP[:-1], make(c.RecordStep, **op(2), step=2), "invalid_value"),
    "a step at another learning rate": (
        ONE_STEP[:-1],
        make(c.RecordStep, **op(2), learning_rate=0.5),
        "invalid_value",
    ),
    "a sample of another step": (
        (CREATED, LEASED, SAMPLE),
        make(c.CompleteSample, **op(1), step=1),
        "invalid_value",
    ),
    "a checkpoint under another name": (
        (*ONE_STEP, SAVE),
        make(c.RecordCheckpoint, **op(3), through_op_seq=2, name="other"),
        "invalid_value",
    ),
    "a checkpoint without the optimizer it was asked for with": (
        (*ONE_STEP, SAVE),
        make(c.RecordCheckpoint, **op(3), through_op_seq=2, includes_optimizer=False),
        "invalid_value",
    ),
    "a worker's own checkpoint with a name": (
        ONE_STEP,
        make(c.RecordCheckpoint, **{**AUTOMATIC, "name": "mine"}),
        "invalid_value",
    ),
    "a checkpoint of another adapter": (
        ONE_STEP,
        make(c.RecordCheckpoint, **{**AUTOMATIC, "adapter_digest": bytes(32)}),
        "invalid_value",
    ),
    "a checkpoint of another step": (ONE_STEP, make(c.RecordCheckpoint, **AUTOMATIC, step=2), "invalid_value"),
    "a checkpoint of a gradient": (
        ONE_STEP,
        make(c.RecordCheckpoint, **{**AUTOMATIC, "through_op_seq": 1}, step=0),
        "invalid_value",
    ),
    "a checkpoint of operations without an outcome": (
        (*ONE_STEP, SAVE),
        make(c.RecordCheckpoint, **{**AUTOMATIC, "through_op_seq": 3}),
        "out_of_order",
    ),
    "a checkpoint older than the newest durable state": (
        (*ONE_STEP, SAVE, SAVED),
        make(c.RecordCheckpoint, **{**AUTOMATIC, "through_op_seq": 0}, step=0),
        "out_of_order",
    ),
    "another checkpoint than was asked for is loaded": (
        (*ONE_STEP, LOAD),
        make(c.RecordCheckpointLoaded, **op(3), artifact_id=FIRST),
        "invalid_value",
    ),
    "a cancellation that nobody asked for": (
        (CREATED, LEASED, BATCH),
        make(c.FailOperation, **op(1), code="cancelled"),
        "invalid_value",
    ),
    "cancel: an unknown operation": ((CREATED,), make(c.RequestCancellation), "unknown_operation"),
    "cancel: a finished operation": (ONE_STEP, make(c.RequestCancellation, **op(1)), "operation_finished"),
    "cancel: twice": (
        (CREATED, BATCH, make(e.CancellationRequested, **op(1))),
        make(c.RequestCancellation, **op(1)),
        "already_exists",
    ),
}


@pytest.mark.parametrize(("given", "when", "then"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(given: tuple[Any, ...], when: Any, then: tuple[Any, ...]) -> None:
    assert decided(given, when) == then


@pytest.mark.parametrize(("given", "when", "code"), REJECTED.values(), ids=REJECTED)
def test_rejects(given: tuple[Any, ...], when: Any, code: str) -> None:
    decision = decided(given, when)
    assert isinstance(decision, Rejected)
    assert decision.code == code
    assert code in CODES


def test_a_lease_bound_to_a_key_takes_that_key() -> None:
    decision = decided((CREATED, BOUND, BATCH), make(c.CompleteForwardBackward, **op(1)), key_id=b"\xab" * 32)
    assert decision == (BATCH_DONE,)


def test_work_that_no_checkpoint_covers_has_a_quota() -> None:
    decision = decided(ONE_STEP, make(c.SubmitSample), limits=Limits(undurable_operations=2))
    assert isinstance(decision, Rejected)
    assert decision.code == "quota_exceeded"


def test_a_refusal_after_a_loss_names_the_last_durable_step() -> None:
    given = (*ONE_STEP, SAVE, SAVED, make(e.ForwardBackwardSubmitted, **op(4)))
    lost = decided(given, make(c.GrantLease))
    assert isinstance(lost, tuple)
    decision = decided((*given, *lost), make(c.SubmitSample, generation=0))
    assert isinstance(decision, Rejected)
    assert "after step 1 was lost" in decision.detail


def granted(epoch: int, artifact: bytes | None = None, step: int = 0, op_seq: int = 0) -> Any:
    return make(e.RunLeaseGranted, lease_epoch=epoch, resume_artifact=artifact, resume_step=step, resume_op_seq=op_seq)


def rolled_back(after: int, through: int, lost: int, artifact: bytes | None = None, step: int = 0) -> Any:
    return make(
        e.RunRolledBack,
        generation=1,
        last_durable_step=step,
        artifact_id=artifact,
        lost_after_op_seq=after,
        lost_through_op_seq=through,
        lost_operations=lost,
    )


BATCH_3, BATCH_3_DONE = make(e.ForwardBackwardSubmitted, **op(3)), make(e.ForwardBackwardCompleted, **op(3))
ADAPTER_ONLY = {"includes_optimizer": False, "operation_id": None, "name": None, "through_op_seq": 2}

LEASES: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "a first lease on a fresh run": ((CREATED,), (granted(1),)),
    "a first lease on queued work loses nothing": ((CREATED, BATCH, STEP), (granted(1),)),
    "a new lease on an idle run loses nothing": ((CREATED, LEASED), (granted(2),)),
    "work since the start is lost": (ONE_STEP, (granted(2), rolled_back(0, 2, 2))),
    "queued work is lost, whatever its kind": ((CREATED, LEASED, SAMPLE), (granted(2), rolled_back(0, 1, 1))),
    "completed samples are not lost": (
        (CREATED, LEASED, SAMPLE, make(e.SampleCompleted, **op(1), step=0)),
        (granted(2),),
    ),
    "failed operations are not lost": ((CREATED, LEASED, BATCH, make(e.OperationFailed, **op(1))), (granted(2),)),
    "a checkpoint keeps what it covers": ((*ONE_STEP, SAVE, SAVED), (granted(2, ARTIFACT, 1, 2),)),
    "a gradient after the checkpoint is lost": (
        (*ONE_STEP, make(e.CheckpointSaved, **AUTOMATIC), BATCH_3, BATCH_3_DONE),
        (granted(2, ARTIFACT, 1, 2), rolled_back(2, 3, 1, ARTIFACT, 1)),
    ),
    "a gradient that the checkpoint came after is lost too": (
        (*ONE_STEP, BATCH_3, BATCH_3_DONE, make(e.CheckpointSaved, **AUTOMATIC)),
        (granted(2, ARTIFACT, 1, 2), rolled_back(2, 3, 1, ARTIFACT, 1)),
    ),
    "a checkpoint without the optimizer is nothing to resume from": (
        (*ONE_STEP, make(e.CheckpointSaved, **ADAPTER_ONLY)),
        (granted(2), rolled_back(0, 2, 2)),
    ),
    "a loaded checkpoint is the state to resume from": (
        (*ONE_STEP, LOAD, make(e.CheckpointLoaded, **op(3), artifact_id=SECOND, step=7)),
        (granted(2, SECOND, 7, 3),),
    ),
    "a checkpoint loaded without its optimizer is not": (
        (
            *ONE_STEP,
            make(e.LoadStateSubmitted, **op(3), include_optimizer=False),
            make(e.CheckpointLoaded, **op(3), step=7),
        ),
        (granted(2), rolled_back(0, 3, 3)),
    ),
    "a closed run is leased for what it still has to finish": (
        (CREATED, BATCH, make(e.RunClosed)),
        (granted(1),),
    ),
}


@pytest.mark.parametrize(("given", "then"), LEASES.values(), ids=LEASES)
def test_a_lease_resumes_from_the_newest_durable_state(given: tuple[Any, ...], then: tuple[Any, ...]) -> None:
    assert decided(given, make(c.GrantLease)) == then


HELD = (CREATED, make(e.RunLeaseGranted, worker="one"))
FOR_NOTHING = {
    "another one was granted first": (HELD, {"worker": "two", "former_epoch": 0}, "stale_lease"),
    "a lease that was never granted": (HELD, {"worker": "two", "former_epoch": 2}, "stale_lease"),
    "nobody holds it yet": ((CREATED,), {"worker": "two", "former_epoch": 1}, "stale_lease"),
    "the worker holds it": (HELD, {"worker": "one", "former_epoch": 1}, "already_exists"),
    "the worker was given it first": (HELD, {"worker": "one", "former_epoch": 0}, "stale_lease"),
}


@pytest.mark.parametrize(("given", "grant", "code"), FOR_NOTHING.values(), ids=FOR_NOTHING)
def test_a_grant_in_place_of_a_lease_is_refused_where_it_would_move_a_run_for_nothing(
    given: tuple[Any, ...], grant: dict[str, Any], code: str
) -> None:
    decision = decided(given, make(c.GrantLease, **grant))
    assert isinstance(decision, Rejected)
    assert decision.code == code


def test_a_grant_in_place_of_the_present_lease_is_given_and_one_that_names_none_always() -> None:
    second = make(e.RunLeaseGranted, worker="two", lease_epoch=2, resume_artifact=None, resume_step=0, resume_op_seq=0)
    assert decided(HELD, make(c.GrantLease, worker="two", former_epoch=1)) == (second,)
    assert decided(HELD, make(c.GrantLease, worker="two", former_epoch=None)) == (second,)
    assert isinstance(decided(HELD, make(c.GrantLease, worker="one", former_epoch=None)), tuple)


def test_after_a_loss_the_run_is_at_its_durable_step_and_numbers_go_on() -> None:
    given = (*ONE_STEP, make(e.CheckpointSaved, **AUTOMATIC), BATCH_3, BATCH_3_DONE)
    lost = decided(given, make(c.GrantLease))
    assert isinstance(lost, tuple)
    state = fold("run/run-1", *given, *lost)
    assert isinstance(state, RunState)
    assert (state.step, state.generation, state.pending, state.undurable) == (1, 1, (), ())
    assert decided((*given, *lost), make(c.SubmitForwardBackward, generation=1)) == (
        make(e.ForwardBackwardSubmitted, op_seq=4),
    )


def test_a_late_older_checkpoint_does_not_move_the_durable_state_back() -> None:
    newer = make(e.CheckpointSaved, **AUTOMATIC, artifact_id=THIRD)
    late = make(e.CheckpointSaved, **{**AUTOMATIC, "through_op_seq": 0}, step=0)
    state = fold("run/run-1", *ONE_STEP, newer, late)
    assert isinstance(state, RunState)
    assert state.durable.artifact == THIRD
