"""A run's own limits as given, when, then: batches of a step, steps, clipping, what it starts from, sampling alone."""

from __future__ import annotations

from typing import Any

import pytest

from producers.deciders.context import CODES, LIMITS, Rejected
from producers.deciders.run import RunState
from schemas import commands as c
from schemas import events as e
from schemas.types import OptimizerSpec, StartSpec
from tests.deciders.examples import ARTIFACT, decided, fold, make

LEASED = make(e.RunLeaseGranted)
START = StartSpec(ARTIFACT, b"\x27" * 32, 7)
CLIPPING = OptimizerSpec("adamw", 1e-3, 0.0, 0.9, 0.999, 1e-8, max_grad_norm=1.0)


def op(number: int) -> dict[str, Any]:
    return {"operation_id": bytes([number]) * 16, "op_seq": number}


def batch(number: int) -> Any:
    return make(e.ForwardBackwardSubmitted, **op(number))


def done(number: int) -> Any:
    return make(e.ForwardBackwardCompleted, **op(number))


def failed(number: int) -> Any:
    return make(e.OperationFailed, **op(number))


def asked(number: int, **given: Any) -> Any:
    return make(e.OptimStepSubmitted, **op(number), **{"learning_rate": None, **given})


def applied(number: int, step: int = 1) -> Any:
    return make(e.StepApplied, **op(number), step=step)


def load(number: int, **given: Any) -> Any:
    return make(e.LoadStateSubmitted, **op(number), **given)


def loaded(number: int, step: int = 1) -> Any:
    return make(e.CheckpointLoaded, **op(number), step=step)


def run(**given: Any) -> tuple[Any, ...]:
    return (make(e.RunCreated, **given), LEASED)


IN_TWOS = run(gradient_accumulation_steps=2)
ONCE = run(max_steps=1)
SAMPLER = run(trainable=False, batch_retention="sealed", start=START)
ROLLED_BACK = make(
    e.RunRolledBack, generation=1, last_durable_step=0, artifact_id=None, lost_after_op_seq=0, lost_through_op_seq=2,
    lost_operations=2,
)  # fmt: skip
NEXT_BATCH, NEXT_STEP = make(c.SubmitForwardBackward), make(c.SubmitOptimStep)

ACCEPTED: dict[str, tuple[tuple[Any, ...], Any]] = {
    "any number of batches for a step": ((*run(), batch(1), batch(2), batch(3)), NEXT_STEP),
    "the first batch of two": (IN_TWOS, NEXT_BATCH),
    "the second batch of two": ((*IN_TWOS, batch(1)), NEXT_BATCH),
    "a step of two pending batches": ((*IN_TWOS, batch(1), batch(2)), NEXT_STEP),
    "a step of two batches": ((*IN_TWOS, batch(1), batch(2), done(1), done(2)), NEXT_STEP),
    "a step of a batch and a pending one": ((*IN_TWOS, batch(1), batch(2), done(1)), NEXT_STEP),
    "a batch behind a pending step": ((*IN_TWOS, batch(1), batch(2), asked(3)), NEXT_BATCH),
    "a batch instead of one that failed": ((*IN_TWOS, batch(1), batch(2), done(1), failed(2)), NEXT_BATCH),
    "a step again that failed": (
        (*IN_TWOS, batch(1), batch(2), done(1), done(2), asked(3), failed(3)),
        NEXT_STEP,
    ),
    "a batch behind a load, which drops what was there": ((*IN_TWOS, batch(1), batch(2), load(3)), NEXT_BATCH),
    "a batch behind a load that is done": (
        (*IN_TWOS, batch(1), batch(2), done(1), done(2), load(3), loaded(3)),
        NEXT_BATCH,
    ),
    "a batch after a loss, which drops what was there": (
        (*IN_TWOS, batch(1), done(1), batch(2), done(2), ROLLED_BACK),
        NEXT_BATCH,
    ),
    "a step behind a load of an earlier state": (
        (*ONCE, batch(1), done(1), asked(2), applied(2), load(3, step=0), batch(4)),
        NEXT_STEP,
    ),
    "an evaluation between the batches": ((*IN_TWOS, batch(1), batch(2)), make(c.SubmitForward)),
    "an evaluation": ((*run(), make(e.ForwardSubmitted, **op(1))), make(c.CompleteForward, **op(1), step=0)),
    "a step clipped as it was asked for": (
        (*run(), batch(1), done(1), asked(2, max_grad_norm=0.5)),
        make(c.RecordStep, **op(2), clipped=True),
    ),
    "a step clipped as the run clips": (
        (*run(optimizer=CLIPPING), batch(1), done(1), asked(2)),
        make(c.RecordStep, **op(2), clipped=True),
    ),
    "a step that needed no clipping": (
        (*run(optimizer=CLIPPING), batch(1), done(1), asked(2)),
        make(c.RecordStep, **op(2)),
    ),
    "the first step of a run that starts from a checkpoint": (
        (*run(start=START), batch(1), done(1), asked(2)),
        make(c.RecordStep, **op(2), step=8),
    ),
    "a load that ends at the step it was asked for as": (
        (*run(), load(1, step=3)),
        make(c.RecordCheckpointLoaded, **op(1), step=3),
    ),
    "a sample of a sampler": (SAMPLER, make(c.SubmitSample, interval=0)),
    "a sample that was stopped while it ran": (
        (*run(), make(e.SampleSubmitted, **op(1)), make(e.CancellationRequested, **op(1))),
        make(c.FailOperation, **op(1), code="cancelled"),
    ),
}

REJECTED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "a third batch of two": ((*IN_TWOS, batch(1), batch(2)), NEXT_BATCH, "accumulation_full"),
    "a third batch of two, which are done": (
        (*IN_TWOS, batch(1), batch(2), done(1), done(2)),
        NEXT_BATCH,
        "accumulation_full",
    ),
    "a batch behind a step that failed": (
        (*IN_TWOS, batch(1), batch(2), done(1), done(2), asked(3), failed(3)),
        NEXT_BATCH,
        "accumulation_full",
    ),
    "a step of one batch instead of two": ((*IN_TWOS, batch(1)), NEXT_STEP, "accumulation_incomplete"),
    "a step after one of its batches failed": (
        (*IN_TWOS, batch(1), batch(2), done(1), failed(2)),
        NEXT_STEP,
        "accumulation_incomplete",
    ),
    "a step behind a load and one batch": (
        (*IN_TWOS, batch(1), load(2), batch(3)),
        NEXT_STEP,
        "accumulation_incomplete",
    ),
    "a step without a batch": (IN_TWOS, NEXT_STEP, "nothing_to_apply"),
    "a step's outcome after one of its batches failed": (
        (*IN_TWOS, batch(1), batch(2), asked(3), done(1), failed(2)),
        make(c.RecordStep, **op(3)),
        "accumulation_incomplete",
    ),
    "a step's outcome after all of its batches failed": (
        (*IN_TWOS, batch(1), batch(2), asked(3), failed(1), failed(2)),
        make(c.RecordStep, **op(3)),
        "nothing_to_apply",
    ),
    "a batch's outcome after the step before it failed": (
        (*IN_TWOS, batch(1), batch(2), asked(3), batch(4), done(1), done(2), failed(3)),
        make(c.CompleteForwardBackward, **op(4)),
        "accumulation_full",
    ),
    "a step past the last, behind a load": (
        (*ONCE, load(1, step=1), batch(2)),
        NEXT_STEP,
        "max_steps_reached",
    ),
    "a step's outcome past the last, after the load before it failed": (
        (*ONCE, batch(1), done(1), asked(2), applied(2), load(3, step=0), batch(4), asked(5), failed(3), done(4)),
        make(c.RecordStep, **op(5), step=2),
        "max_steps_reached",
    ),
    "an evaluation of another step": (
        (*run(), make(e.ForwardSubmitted, **op(1))),
        make(c.CompleteForward, **op(1), step=1),
        "invalid_value",
    ),
    "an evaluation's outcome for a batch": (
        (*run(), batch(1)),
        make(c.CompleteForward, **op(1), step=0),
        "wrong_operation_kind",
    ),
    "a step clipped though nobody asked": (
        (*run(), batch(1), done(1), asked(2)),
        make(c.RecordStep, **op(2), clipped=True),
        "invalid_value",
    ),
    "a load that ends at another step": (
        (*run(), load(1, step=3)),
        make(c.RecordCheckpointLoaded, **op(1), step=2),
        "invalid_value",
    ),
    "sampler: a batch": (SAMPLER, make(c.SubmitForwardBackward, interval=0), "sampling_only"),
    "sampler: an evaluation": (SAMPLER, make(c.SubmitForward, interval=0), "sampling_only"),
    "sampler: a step": (SAMPLER, NEXT_STEP, "sampling_only"),
    "sampler: a checkpoint": (SAMPLER, make(c.SubmitSaveState), "sampling_only"),
    "sampler: a load": (SAMPLER, make(c.SubmitLoadState), "sampling_only"),
}


@pytest.mark.parametrize(("given", "when"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(given: tuple[Any, ...], when: Any) -> None:
    assert isinstance(decided(given, when), tuple)


@pytest.mark.parametrize(("given", "when", "code"), REJECTED.values(), ids=REJECTED)
def test_rejects(given: tuple[Any, ...], when: Any, code: str) -> None:
    decision = decided(given, when)
    assert isinstance(decision, Rejected)
    assert decision.code == code
    assert code in CODES


@pytest.mark.parametrize("trainable", [True, False])
def test_a_run_resumes_from_what_it_starts_from_until_something_newer_is_durable(*, trainable: bool) -> None:
    granted = decided(run(start=START, trainable=trainable), make(c.GrantLease))
    assert granted == (
        make(e.RunLeaseGranted, lease_epoch=2, resume_artifact=ARTIFACT, resume_step=7, resume_op_seq=0),
    )


def samples(first: int, last: int, interval: int = 0) -> tuple[Any, ...]:
    return tuple(
        make(e.SampleSubmitted, operation_id=n.to_bytes(16, "big"), op_seq=n, interval=interval)
        for n in range(first, last + 1)
    )


def sampled(first: int, last: int) -> tuple[Any, ...]:
    return tuple(make(e.SampleCompleted, operation_id=n.to_bytes(16, "big"), step=7) for n in range(first, last + 1))


STRIDE = LIMITS.sampler_interval
RESTS = {
    "it has work left": ((*samples(1, 2), *sampled(1, 1)), 0),
    "it has no work left": ((*samples(1, 2), *sampled(1, 2)), 2),
    "its last operation failed": ((*samples(1, 1), make(e.OperationFailed, operation_id=(1).to_bytes(16, "big"))), 1),
    "it never rests": ((*samples(1, STRIDE + 1), *sampled(1, STRIDE)), STRIDE),
    "it nearly never rested": ((*samples(1, STRIDE + 1), *sampled(1, STRIDE - 1)), 0),
}


@pytest.mark.parametrize(("given", "interval"), RESTS.values(), ids=RESTS)
def test_a_sampler_begins_a_new_interval_when_it_rests_or_after_a_while(given: tuple[Any, ...], interval: int) -> None:
    state = fold("run/run-1", *SAMPLER, *given)
    assert isinstance(state, RunState)
    assert (state.durable.op_seq, state.durable.artifact, state.durable.step) == (interval, ARTIFACT, 7)
    assert isinstance(decided((*SAMPLER, *given), make(c.SubmitSample, interval=interval)), tuple)
    gone = decided((*SAMPLER, *given), make(c.RecordBatchKeyDestroyed, interval=0))
    assert isinstance(gone, tuple) == (0 < interval == state.last_op_seq)
