"""A sealed run as given, when, then: where its inputs lie, how long, and how its state is computed again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from producers.deciders.context import CODES, Limits, Rejected
from producers.deciders.run import RunState
from schemas import commands as c
from schemas import events as e
from tests.deciders.examples import ARTIFACT, decided, fold, make

SEALED = make(e.RunCreated, batch_retention="sealed")
MEMORY = make(e.RunCreated)
LEASED, AGAIN = make(e.RunLeaseGranted), make(e.RunLeaseGranted, lease_epoch=2)
CLOSED = make(e.RunClosed)


def op(number: int) -> dict[str, Any]:
    return {"operation_id": bytes([number]) * 16, "op_seq": number}


def batch(number: int, interval: int = 0) -> Any:
    return make(e.ForwardBackwardSubmitted, **op(number), interval=interval)


def batch_done(number: int) -> Any:
    return make(e.ForwardBackwardCompleted, **op(number))


def step_done(number: int, step: int = 1, digest: bytes = b"\x20" * 32) -> tuple[Any, ...]:
    return (
        make(e.OptimStepSubmitted, **op(number), learning_rate=None),
        make(e.StepApplied, **op(number), step=step, adapter_digest=digest),
    )


def saved(through: int, step: int = 1, artifact: bytes = ARTIFACT) -> Any:
    return make(
        e.CheckpointSaved, operation_id=None, name=None, through_op_seq=through, step=step, artifact_id=artifact
    )


ONE_STEP = (SEALED, LEASED, batch(1), batch_done(1), *step_done(2))
DURABLE = (*ONE_STEP, saved(2))
SECOND_STEP = (batch(3, 2), batch_done(3), *step_done(4, 2))
REPLAYING = (*ONE_STEP, AGAIN)
SAMPLE = make(e.SampleSubmitted, **op(3), interval=0)
REPLAY = {"lease_epoch": 2, "through_op_seq": 2, "steps": 1}
INPUTS = (c.SubmitForwardBackward, c.SubmitForward, c.SubmitSample)

PLACED = {
    "before anything is durable": ((SEALED,), 0),
    "while something is not durable": (ONE_STEP, 0),
    "after a durable state": (DURABLE, 2),
    "after a load": (
        (*DURABLE, make(e.LoadStateSubmitted, **op(3)), make(e.CheckpointLoaded, **op(3))),
        3,
    ),
    "after a load of the weights alone": (
        (
            *DURABLE,
            make(e.LoadStateSubmitted, **op(3), include_optimizer=False),
            make(e.CheckpointLoaded, **op(3)),
        ),
        2,
    ),
    "while a worker computes the state again": (REPLAYING, 0),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize(("given", "interval"), PLACED.values(), ids=PLACED)
def test_an_input_is_sealed_in_the_interval_since_the_newest_durable_state(
    given: tuple[Any, ...], interval: int, kind: type[Any]
) -> None:
    accepted = decided(given, make(kind, interval=interval))
    assert isinstance(accepted, tuple)
    assert accepted[0].interval == interval  # type: ignore[attr-defined]
    for other in (None, interval + 1, interval - 1):
        refused = decided(given, make(kind, interval=other))
        assert isinstance(refused, Rejected)
        assert refused.code == "interval_over"


@pytest.mark.parametrize("kind", INPUTS)
def test_a_run_that_keeps_no_inputs_has_no_intervals(kind: type[Any]) -> None:
    assert isinstance(decided((MEMORY,), make(kind, interval=None)), tuple)
    refused = decided((MEMORY,), make(kind, interval=0))
    assert isinstance(refused, Rejected)
    assert refused.code == "invalid_value"


def test_intervals_whose_keys_are_not_destroyed_have_a_quota() -> None:
    decision = decided((*DURABLE, batch(3, 2), saved(2)), make(c.SubmitSample, interval=2))
    assert isinstance(decision, tuple)
    decision = decided(DURABLE, make(c.SubmitSample, interval=2), limits=Limits(sealed_intervals=1))
    assert isinstance(decision, Rejected)
    assert decision.code == "quota_exceeded"


FAILED_LATER = (*ONE_STEP, batch(3), saved(2), make(e.OperationFailed, **op(3)))
LOST = make(
    e.RunRolledBack,
    generation=1,
    last_durable_step=1,
    artifact_id=ARTIFACT,
    lost_after_op_seq=2,
    lost_through_op_seq=4,
    lost_operations=2,
    cause_code="batch_lost",
)
ROLLED_BACK = (*ONE_STEP, batch(3), saved(2), batch(4, 2), batch_done(3), AGAIN, LOST)

DESTROYED: dict[str, tuple[tuple[Any, ...], int, int]] = {
    "a durable state came after all of them": (DURABLE, 0, 1),
    "one failed after the durable state, and another state came": (
        (*FAILED_LATER, batch(4, 2), batch_done(4), *step_done(5, 2), saved(5, 2)),
        0,
        3,
    ),
    "what came after the durable state is lost": (ROLLED_BACK, 0, 2),
    "the run is closed with nothing left to do": ((*ONE_STEP, CLOSED), 0, 1),
}


@pytest.mark.parametrize(("given", "interval", "through"), DESTROYED.values(), ids=DESTROYED)
def test_the_key_of_inputs_that_nothing_can_need_goes(given: tuple[Any, ...], interval: int, through: int) -> None:
    destroyed = make(e.BatchKeyDestroyed, interval=interval, through_op_seq=through)
    assert decided(given, make(c.RecordBatchKeyDestroyed, interval=interval)) == (destroyed,)
    again = decided((*given, destroyed), make(c.RecordBatchKeyDestroyed, interval=interval))
    assert isinstance(again, Rejected)
    assert again.code == "not_found"


KEPT: dict[str, tuple[tuple[Any, ...], int, str]] = {
    "nothing is durable": (ONE_STEP, 0, "out_of_order"),
    "one is pending": ((*ONE_STEP, batch(3), saved(2)), 0, "out_of_order"),
    "one came after the durable state": ((*ONE_STEP, batch(3), batch_done(3), saved(2)), 0, "out_of_order"),
    "one that failed came after the durable state": (FAILED_LATER, 0, "out_of_order"),
    "more may come": ((*DURABLE, batch(3, 2), make(e.OperationFailed, **op(3))), 2, "out_of_order"),
    "more may come after a loss": (ROLLED_BACK, 2, "out_of_order"),
    "the run is closed with work left": ((*ONE_STEP, SAMPLE, CLOSED), 0, "out_of_order"),
    "the closed run's state is being computed again": ((*ONE_STEP, AGAIN, CLOSED), 0, "out_of_order"),
    "the interval holds none": (DURABLE, 2, "not_found"),
    "the run keeps none": ((MEMORY,), 0, "not_found"),
}


@pytest.mark.parametrize(("given", "interval", "code"), KEPT.values(), ids=KEPT)
def test_the_key_of_inputs_that_something_may_need_stays(given: tuple[Any, ...], interval: int, code: str) -> None:
    decision = decided(given, make(c.RecordBatchKeyDestroyed, interval=interval))
    assert isinstance(decision, Rejected)
    assert decision.code == code


def granted(epoch: int, artifact: bytes | None = None, step: int = 0, op_seq: int = 0) -> Any:
    return make(e.RunLeaseGranted, lease_epoch=epoch, resume_artifact=artifact, resume_step=step, resume_op_seq=op_seq)


LEASES: dict[str, tuple[tuple[Any, ...], Any, bool]] = {
    "a first lease on queued work": ((SEALED, batch(1)), granted(1), False),
    "work since the start": (ONE_STEP, granted(2), True),
    "work since a checkpoint": ((*DURABLE, *SECOND_STEP), granted(2, ARTIFACT, 1, 2), True),
    "a gradient alone": ((SEALED, LEASED, batch(1), batch_done(1)), granted(2), True),
    "queued work alone": ((SEALED, LEASED, batch(1)), granted(2), False),
    "all is durable": (DURABLE, granted(2, ARTIFACT, 1, 2), False),
    "what failed": ((SEALED, LEASED, batch(1), make(e.OperationFailed, **op(1))), granted(2), False),
    "another lease during a replay": (REPLAYING, granted(3), True),
    "another lease after a replay": ((*REPLAYING, make(e.RunReplayed, **REPLAY)), granted(3), True),
    "a closed run with work left": ((*ONE_STEP, SAMPLE, CLOSED), granted(2), True),
}


@pytest.mark.parametrize(("given", "then", "replaying"), LEASES.values(), ids=LEASES)
def test_a_new_worker_loses_nothing_and_computes_again_what_is_not_durable(
    given: tuple[Any, ...], then: Any, *, replaying: bool
) -> None:
    before = fold("run/run-1", *given)
    assert decided(given, make(c.GrantLease)) == (then,)
    after = fold("run/run-1", *given, then)
    assert isinstance(before, RunState)
    assert isinstance(after, RunState)
    assert after.replaying is replaying
    assert (after.pending, after.undurable, after.step) == (before.pending, before.undurable, before.step)


def test_nobody_works_on_a_closed_run_with_nothing_left_to_do() -> None:
    decision = decided((*ONE_STEP, CLOSED), make(c.GrantLease))
    assert isinstance(decision, Rejected)
    assert decision.code == "run_closed"


REPORTS = {
    "a batch": ((*ONE_STEP, batch(3), AGAIN), make(c.CompleteForwardBackward, **op(3), lease_epoch=2)),
    "an evaluation": (
        (*ONE_STEP, make(e.ForwardSubmitted, **op(3)), AGAIN),
        make(c.CompleteForward, **op(3), lease_epoch=2),
    ),
    "a step": ((*ONE_STEP, batch(3), step_done(4)[0], AGAIN), make(c.RecordStep, **op(4), lease_epoch=2)),
    "a sample": ((*ONE_STEP, SAMPLE, AGAIN), make(c.CompleteSample, **op(3), lease_epoch=2)),
    "a checkpoint": (REPLAYING, make(c.RecordCheckpoint, operation_id=None, name=None, lease_epoch=2)),
    "a load": (
        (*ONE_STEP, make(e.LoadStateSubmitted, **op(3)), AGAIN),
        make(c.RecordCheckpointLoaded, **op(3), lease_epoch=2),
    ),
    "a failure": ((*ONE_STEP, SAMPLE, AGAIN), make(c.FailOperation, **op(3), lease_epoch=2)),
}


@pytest.mark.parametrize(("given", "when"), REPORTS.values(), ids=REPORTS)
def test_nothing_else_is_reported_before_the_state_is_there_again(given: tuple[Any, ...], when: Any) -> None:
    decision = decided(given, when)
    assert isinstance(decision, Rejected)
    assert decision.code == "replaying"


def test_after_a_replay_what_was_queued_goes_on_as_if_nothing_had_happened() -> None:
    given = (*ONE_STEP, SAMPLE, AGAIN)
    replayed = decided(given, make(c.RecordReplay, **REPLAY))
    assert replayed == (make(e.RunReplayed, **REPLAY),)
    done = decided((*given, *replayed), make(c.CompleteSample, **op(3), lease_epoch=2))
    assert done == (make(e.SampleCompleted, **op(3), lease_epoch=2),)


OTHER = {"identical": False, "differing_step": 1}
LOADED = (make(e.LoadStateSubmitted, **op(3), include_optimizer=False), make(e.CheckpointLoaded, **op(3), step=4))
REPLAYED: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "identically": (REPLAYING, REPLAY),
    "identically, with its plan": (REPLAYING, {**REPLAY, "plan": make(e.StepApplied).plan}),
    "with a named difference": (REPLAYING, {**REPLAY, **OTHER, "adapter_digest": bytes(32)}),
    "a second time, after a difference": (
        (
            *REPLAYING,
            make(e.RunReplayed, **REPLAY, **OTHER, adapter_digest=bytes(32)),
            make(e.RunLeaseGranted, lease_epoch=3),
        ),
        {**REPLAY, "lease_epoch": 3},
    ),
    "gradients alone, since a state that had been computed with a difference": (
        (
            *REPLAYING,
            make(e.RunReplayed, **REPLAY, **OTHER, adapter_digest=bytes(32)),
            replace(saved(2), adapter_digest=bytes(32)),
            batch(3, 2),
            batch_done(3),
            make(e.RunLeaseGranted, lease_epoch=3),
        ),
        {"lease_epoch": 3, "through_op_seq": 3, "steps": 0, "adapter_digest": bytes(32)},
    ),
    "steps that came after a state that was computed with a difference": (
        (
            *REPLAYING,
            make(e.RunReplayed, **REPLAY, **OTHER, adapter_digest=bytes(32)),
            batch(3),
            batch_done(3),
            *step_done(4, 2, b"\x21" * 32),
            replace(saved(2), adapter_digest=bytes(32)),
            make(e.RunLeaseGranted, lease_epoch=3),
        ),
        {"lease_epoch": 3, "through_op_seq": 4, "steps": 1, "adapter_digest": b"\x21" * 32},
    ),
    "gradients alone": (
        (*DURABLE, batch(3, 2), batch_done(3), AGAIN),
        {"lease_epoch": 2, "through_op_seq": 3, "steps": 0},
    ),
    "a load of weights": ((*ONE_STEP, *LOADED, AGAIN), {"lease_epoch": 2, "through_op_seq": 3, "steps": 1}),
    "past an operation that failed": (
        (*ONE_STEP, batch(3), make(e.OperationFailed, **op(3)), SAMPLE, AGAIN),
        REPLAY,
    ),
}


@pytest.mark.parametrize(("given", "said"), REPLAYED.values(), ids=REPLAYED)
def test_a_state_is_computed_again(given: tuple[Any, ...], said: dict[str, Any]) -> None:
    assert decided(given, make(c.RecordReplay, **said)) == (make(e.RunReplayed, **said),)


@pytest.mark.parametrize("replays", [1, 2], ids=["once", "twice, the second time as it was recorded"])
def test_after_a_replay_a_checkpoint_is_of_the_adapter_that_the_replay_made(replays: int) -> None:
    recorded = make(e.StepApplied).adapter_digest
    given = (*REPLAYING, make(e.RunReplayed, **REPLAY, **OTHER, adapter_digest=bytes(32)))
    if replays == 2:
        again = {**REPLAY, "lease_epoch": 3}
        given = (*given, make(e.RunLeaseGranted, lease_epoch=3), make(e.RunReplayed, **again))
    said = {"operation_id": None, "name": None, "lease_epoch": 1 + replays, "step": 1, "through_op_seq": 2}
    made, other = (bytes(32), recorded)[:: 1 if replays == 1 else -1]
    refused = decided(given, make(c.RecordCheckpoint, **said, adapter_digest=other))
    assert isinstance(refused, Rejected)
    assert refused.code == "invalid_value"
    assert isinstance(decided(given, make(c.RecordCheckpoint, **said, adapter_digest=made)), tuple)


NOT_REPLAYED: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "nothing is to replay": (ONE_STEP, {**REPLAY, "lease_epoch": 1}, "out_of_order"),
    "it was replayed": ((*REPLAYING, make(e.RunReplayed, **REPLAY)), REPLAY, "out_of_order"),
    "an old lease": (REPLAYING, {**REPLAY, "lease_epoch": 1}, "stale_lease"),
    "nobody's run": ((SEALED,), REPLAY, "no_lease"),
    "not all of it": (REPLAYING, {**REPLAY, "through_op_seq": 1}, "invalid_value"),
    "more than all": (REPLAYING, {**REPLAY, "through_op_seq": 3}, "invalid_value"),
    "too few steps": (REPLAYING, {**REPLAY, "steps": 0}, "invalid_value"),
    "identical and different": (REPLAYING, {**REPLAY, "differing_step": 1}, "invalid_value"),
    "gradients alone, on another adapter than the durable one": (
        (*ONE_STEP, replace(saved(2), adapter_digest=bytes(32)), batch(3, 2), batch_done(3), AGAIN),
        {"lease_epoch": 2, "through_op_seq": 3, "steps": 0},
        "invalid_value",
    ),
    "identical to another adapter": (REPLAYING, {**REPLAY, "adapter_digest": bytes(32)}, "invalid_value"),
    "another, but no step of it": (REPLAYING, {**REPLAY, "identical": False}, "invalid_value"),
    "another in a step that was not replayed": (REPLAYING, {**REPLAY, **OTHER, "differing_step": 2}, "invalid_value"),
    "another by an unknown plan": (REPLAYING, {**REPLAY, **OTHER, "plan": None}, "invalid_value"),
}


@pytest.mark.parametrize(("given", "said", "code"), NOT_REPLAYED.values(), ids=NOT_REPLAYED)
def test_a_replay_must_be_of_what_is_recorded(given: tuple[Any, ...], said: dict[str, Any], code: str) -> None:
    decision = decided(given, make(c.RecordReplay, **said))
    assert isinstance(decision, Rejected)
    assert decision.code == code
    assert code in CODES


def test_a_replay_that_fails_loses_what_a_memory_run_would_have_lost() -> None:
    given = (*DURABLE, *SECOND_STEP, make(e.SampleSubmitted, **op(5), interval=2), AGAIN)
    decision = decided(given, make(c.FailReplay, lease_epoch=2, code="batch_lost"))
    lost = make(
        e.RunRolledBack,
        generation=1,
        last_durable_step=1,
        artifact_id=ARTIFACT,
        lost_after_op_seq=2,
        lost_through_op_seq=5,
        lost_operations=3,
        cause_code="batch_lost",
    )
    assert decision == (lost,)
    state = fold("run/run-1", *given, lost)
    assert isinstance(state, RunState)
    assert (state.replaying, state.pending, state.undurable, state.step) == (False, (), (), 1)
    again = decided((*given, lost), make(c.FailReplay, lease_epoch=2))
    assert isinstance(again, Rejected)
    assert again.code == "out_of_order"


def test_a_step_that_failed_leaves_its_gradient_to_the_next_one_and_to_a_replay() -> None:
    failed = (SEALED, LEASED, batch(1), batch_done(1), step_done(2)[0], make(e.OperationFailed, **op(2)))
    assert isinstance(decided(failed, make(c.SubmitOptimStep)), tuple)
    replaying = (*failed, *step_done(3), AGAIN)
    replayed = {"lease_epoch": 2, "through_op_seq": 3, "steps": 1}
    assert decided(replaying, make(c.RecordReplay, **replayed)) == (make(e.RunReplayed, **replayed),)
