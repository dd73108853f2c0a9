"""A client that tries again doubles nothing, waits as it is told, and gives up when its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tg_tinker import RetryPolicy, ServiceClient, TrainingClient, errors
from tg_tinker.retry import Response, Unreachable

from tests.sdk import simulator as simulation
from tests.sdk.simulator import Simulator
from tests.sdk.test_training_client import BATCH
from tests.support.server import free_port

TRANSIENT = {
    "the request never arrives": ["drop before"],
    "the answer is lost after the work is done": ["drop after"],
    "both, several times": ["drop after", "drop before", "drop after"],
    "the ledger cannot be written": ["503", "503"],
    "a proxy fails": ["503", "drop after", "503"],
}


@pytest.mark.parametrize("faults", TRANSIENT.values(), ids=TRANSIENT)
def test_what_passes_is_tried_again_and_nothing_is_doubled(
    faults: list[str], simulator: Simulator, training: TrainingClient
) -> None:
    simulator.faults.extend(faults)
    assert training.optim_step().result(timeout=5).step == 1
    assert training.optim_step().result(timeout=5).step == 2
    assert len(simulator.futures) == 2


def test_every_attempt_carries_the_same_key_and_every_call_another(
    simulator: Simulator, training: TrainingClient
) -> None:
    simulator.faults.extend(["drop after", "drop after"])
    training.forward_backward(BATCH)
    training.forward_backward(BATCH)
    sent = [seen for seen in simulator.seen if seen.path.endswith("/forward_backward")]
    keys = [seen.headers["idempotency-key"] for seen in sent]
    assert len(keys) == 4
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert sent[0].body == sent[1].body == sent[2].body


def test_waiting_for_a_result_survives_lost_connections(simulator: Simulator, training: TrainingClient) -> None:
    handle = training.forward_backward(BATCH)
    simulator.faults.extend(["drop before", "503", "drop after"])
    assert handle.result(timeout=10).loss == 2.5


def test_retry_after_is_obeyed_up_to_the_longest_pause(simulator: Simulator) -> None:
    policy = RetryPolicy(most_seconds=10, first_pause=0.01, longest_pause=0.3)
    with ServiceClient(simulator.url, simulation.API_KEY, retry=policy) as client:
        simulator.faults.append("429")
        began = time.monotonic()
        client.list_training_clients()
        assert 0.3 <= time.monotonic() - began < 2


LASTING: dict[str, tuple[str, type[errors.TGTinkerError]]] = {
    "a full quota": ("429", errors.QuotaExceededError),
    "a ledger that cannot be written": ("503", errors.ServerUnavailableError),
    "a server that hangs up": ("drop before", errors.ServerUnreachableError),
}


@pytest.mark.parametrize(("fault", "kind"), LASTING.values(), ids=LASTING)
def test_what_lasts_is_told_by_its_type(fault: str, kind: type[errors.TGTinkerError], simulator: Simulator) -> None:
    policy = RetryPolicy(most_seconds=0.2, first_pause=0.02, longest_pause=0.05)
    with ServiceClient(simulator.url, simulation.API_KEY, retry=policy) as client:
        simulator.faults.extend([fault] * 100)
        with pytest.raises(kind) as caught:
            client.list_training_clients()
    assert isinstance(caught.value, errors.TransientError)
    assert len(simulator.seen) > 1


AT_ONCE: dict[str, tuple[str, type[errors.TGTinkerError]]] = {
    "a failure of the server": ("500", errors.ServerFailedError),
    "an answer that is no JSON": ("not json", errors.ProtocolError),
}


@pytest.mark.parametrize(("fault", "kind"), AT_ONCE.values(), ids=AT_ONCE)
def test_what_does_not_pass_is_not_tried_again(
    fault: str, kind: type[errors.TGTinkerError], simulator: Simulator, client: ServiceClient
) -> None:
    simulator.faults.append(fault)
    with pytest.raises(kind):
        client.list_training_clients()
    assert len(simulator.seen) == 1


def test_a_policy_without_time_never_sends_twice(simulator: Simulator) -> None:
    with ServiceClient(simulator.url, simulation.API_KEY, retry=RetryPolicy(most_seconds=0)) as client:
        simulator.faults.append("503")
        with pytest.raises(errors.ServerUnavailableError):
            client.list_training_clients()
    assert len(simulator.seen) == 1


def test_a_server_that_is_not_there_is_unreachable() -> None:
    policy = RetryPolicy(most_seconds=0.1, first_pause=0.02)
    client = ServiceClient(f"http://127.0.0.1:{free_port()}", "key", retry=policy)
    with client, pytest.raises(errors.ServerUnreachableError) as caught:
        client.list_training_clients()
    assert caught.value.code == "connection_failed"


def test_a_wait_ends_in_time_though_the_server_is_gone(simulator: Simulator, training: TrainingClient) -> None:
    simulator.held = True
    handle = training.optim_step()
    simulator.faults.extend(["drop before"] * 1000)
    began = time.monotonic()
    with pytest.raises(errors.FutureTimeoutError):
        handle.result(timeout=0.3)
    assert time.monotonic() - began < 2
    simulator.faults.clear()


OUTCOMES: dict[str, tuple[Callable[[], Response | Unreachable], bool]] = {
    "no answer": (lambda: Unreachable("ConnectError"), True),
    "too much": (lambda: Response(429, b""), True),
    "a bad gateway": (lambda: Response(502, b""), True),
    "success": (lambda: Response(200, b""), False),
    "a conflict": (lambda: Response(409, b""), False),
    "a full disk": (lambda: Response(507, b""), False),
}


@pytest.mark.parametrize(("outcome", "again"), OUTCOMES.values(), ids=OUTCOMES)
def test_only_what_may_pass_is_tried_again(outcome: Callable[[], Response | Unreachable], again: bool) -> None:  # noqa: FBT001
    assert (RetryPolicy().pause(0, outcome(), 0.5) is not None) == again


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_to_a_bound_and_are_never_in_step(attempt: int, jitter: float) -> None:
    pause = RetryPolicy(first_pause=0.2, longest_pause=5.0).pause(attempt, Unreachable("x"), jitter)
    assert pause is not None
    assert 0.1 <= pause <= 5.0


@pytest.mark.parametrize("text", ["", "Wed, 21 Oct 2026 07:28:00 GMT", "-3", "1.5", "²"])
def test_a_retry_after_that_is_no_number_of_seconds_is_left_out(text: str) -> None:
    pause = RetryPolicy(first_pause=0.2).pause(0, Response(503, b"", {"retry-after": text}), 0.0)
    assert pause == pytest.approx(0.1)
