"""Waiting, giving up, cancelling, failing: what a handle says in each case."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from tg_tinker import FutureHandle, RetryPolicy, ServiceClient, TrainingClient, TrainingConfig, errors

from tests.sdk import simulator as simulation
from tests.sdk.conftest import QUICK
from tests.sdk.simulator import Simulator
from tests.sdk.test_training_client import BATCH

SLOW = RetryPolicy(most_seconds=600, first_pause=30, longest_pause=60)

FAILURES = {
    "non_finite_loss": errors.NonFiniteLossError,
    "token_out_of_vocabulary": errors.TokenOutOfVocabularyError,
    "sequence_too_long": errors.SequenceTooLongError,
    "out_of_memory": errors.WorkerOutOfMemoryError,
    "empty_gradient": errors.EmptyGradientError,
    "batch_lost": errors.BatchLostError,
    "checkpoint_damaged": errors.CheckpointDamagedError,
    "checkpoint_truncated": errors.CheckpointTruncatedError,
    "checkpoint_wrong_key": errors.CheckpointWrongKeyError,
    "checkpoint_mismatch": errors.CheckpointMismatchError,
    "storage_full": errors.StorageFullError,
    "internal_error": errors.InternalServerError,
    "model_changed": errors.ModelChangedError,
    "result_expired": errors.ResultExpiredError,
    "a_code_of_a_newer_server": errors.OperationFailedError,
}


@pytest.fixture
def pending(simulator: Simulator, training: TrainingClient) -> FutureHandle[Any]:
    simulator.held = True
    return training.forward_backward(BATCH)


def test_a_pending_future_times_out_and_can_be_waited_for_again(
    simulator: Simulator, pending: FutureHandle[Any]
) -> None:
    began = time.monotonic()
    with pytest.raises(errors.FutureTimeoutError) as caught:
        pending.result(timeout=0.2)
    assert isinstance(caught.value, TimeoutError)
    assert 0.2 <= time.monotonic() - began < 2
    assert (pending.status(), pending.done()) == ("pending", False)
    with pytest.raises(errors.FutureTimeoutError):
        pending.exception(timeout=0)
    simulator.release()
    assert pending.result(timeout=5).loss == 2.5
    assert (pending.status(), pending.done(), pending.exception()) == ("completed", True, None)


def test_a_waiter_wakes_when_the_result_is_there(simulator: Simulator, pending: FutureHandle[Any]) -> None:
    results: list[float] = []
    thread = threading.Thread(target=lambda: results.append(pending.result().loss))
    thread.start()
    with simulator.changed:
        simulator.changed.wait_for(lambda: any(s.path.endswith("/result") for s in simulator.seen), 5)
    simulator.release()
    thread.join(5)
    assert results == [2.5]
    assert sum(seen.path.endswith("/result") for seen in simulator.seen) <= 2


def test_a_finished_future_is_not_asked_for_again(simulator: Simulator, training: TrainingClient) -> None:
    handle = training.optim_step()
    handle.result(timeout=5)
    requests = len(simulator.seen)
    assert handle.result().step == handle.result().step == 1
    assert handle.done()
    assert len(simulator.seen) == requests


def test_a_future_is_found_again_by_its_id(client: ServiceClient, training: TrainingClient) -> None:
    handle = training.sample("abc")
    found = client.get_future(handle.future_id)
    assert (found.kind, found.training_client_id) == ("sample", "run-1")
    assert found.result(timeout=5).samples[0].completion == "cba"
    with pytest.raises(errors.UnknownFutureError):
        client.get_future("00" * 16)


def test_a_pending_operation_is_cancelled_when_its_worker_says_so(
    simulator: Simulator, pending: FutureHandle[Any]
) -> None:
    assert pending.cancel()
    simulator.release()
    with pytest.raises(errors.CancelledError):
        pending.result(timeout=5)
    assert pending.status() == "cancelled"
    assert not pending.cancel()


def test_a_finished_operation_cannot_be_cancelled(simulator: Simulator, pending: FutureHandle[Any]) -> None:
    simulator.release()
    assert not pending.cancel()
    assert pending.result(timeout=5).loss == 2.5


@pytest.mark.parametrize(("code", "kind"), FAILURES.items(), ids=FAILURES)
def test_a_failure_has_the_class_of_its_code(
    code: str, kind: type[errors.TGTinkerError], simulator: Simulator, training: TrainingClient
) -> None:
    simulator.failures.append(code)
    handle = training.optim_step()
    with pytest.raises(kind) as caught:
        handle.result(timeout=5)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert caught.value.next_step == "Read the test."
    assert isinstance(handle.exception(), kind)
    assert training.optim_step().result(timeout=5).step == 1


def test_a_rollback_is_told_once_and_the_run_goes_on(simulator: Simulator, training: TrainingClient) -> None:
    training.optim_step().result(timeout=5)
    simulator.roll_back("run-1", step=7, artifact_id="aa" * 16)
    with pytest.raises(errors.RunRolledBackError) as caught:
        training.forward_backward(BATCH)
    told = caught.value
    assert (told.last_durable_step, told.artifact_id, told.generation, told.lost_operations) == (7, "aa" * 16, 1, 1)
    assert training.generation == 1
    assert training.optim_step().result(timeout=5).step == 8


def test_a_lost_operation_names_the_durable_step_and_the_run_goes_on(
    simulator: Simulator, training: TrainingClient, pending: FutureHandle[Any]
) -> None:
    simulator.roll_back("run-1", step=0, artifact_id=None)
    with pytest.raises(errors.OperationLostError) as caught:
        pending.result(timeout=5)
    assert (caught.value.last_durable_step, caught.value.artifact_id, caught.value.generation) == (0, None, 1)
    simulator.held = False
    assert training.optim_step().result(timeout=5).step == 1


def test_reading_a_run_does_not_hide_a_rollback(simulator: Simulator, training: TrainingClient) -> None:
    simulator.roll_back("run-1", step=0, artifact_id=None)
    assert training.refresh().generation == 1
    with pytest.raises(errors.RunRolledBackError):
        training.optim_step()


def test_closing_the_client_ends_what_waits(simulator: Simulator) -> None:
    patient = ServiceClient(simulator.url, simulation.API_KEY, retry=SLOW)
    simulator.faults.extend(["503"] * 1000)
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            patient.list_training_clients()
        except errors.TGTinkerError as error:
            raised.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not simulator.seen:
        threading.Event().wait(0.01)
    patient.close()
    thread.join(5)
    assert [type(error) for error in raised] == [errors.ClientClosedError]


def test_asyncio_waits_give_up_in_time(simulator: Simulator) -> None:
    async def session() -> None:
        async with ServiceClient(simulator.url, simulation.API_KEY, retry=QUICK) as client:
            training = await client.create_training_client_async(TrainingConfig(model_ref="small"))
            simulator.held = True
            handle = await training.optim_step_async()
            with pytest.raises(errors.FutureTimeoutError):
                await handle.result(timeout=0.1)
            assert await handle.cancel()
            simulator.release()
            with pytest.raises(errors.CancelledError):
                await handle

    asyncio.run(session())
