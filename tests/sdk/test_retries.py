"""A client that tries again doubles nothing, waits as it is told, and gives up when its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tg_tinker import RetryPolicy, ServiceClient, TrainingClient, TrainingConfig, errors
from tg_tinker.flows import Pause, Request, Surroundings, exchange
from tg_tinker.retry import Response, Unreachable, retry_after

from tests.sdk.simulator import API_KEY, Simulator
from tests.sdk.simulator_http import running
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


FAULTS = ("drop before", "drop after", "503")


@settings(max_examples=12, deadline=None)
@given(faults=st.lists(st.lists(st.sampled_from(FAULTS), max_size=3), min_size=1, max_size=4))
def test_whatever_goes_wrong_on_the_way_each_call_has_one_effect(faults: list[list[str]]) -> None:
    policy = RetryPolicy(most_seconds=5, first_pause=0.001, longest_pause=0.002)
    with running() as simulator, ServiceClient(simulator.url, API_KEY, retry=policy) as client:
        training = client.create_training_client(TrainingConfig(model_ref="small"))
        for number, some in enumerate(faults, start=1):
            simulator.faults.extend(some)
            assert training.optim_step().result(timeout=5).step == number
        assert len(simulator.futures) == len(faults)


class World:
    """A clock that only pauses move, and what a flow was answered."""

    def __init__(self, jitter: float = 0.0, retry: RetryPolicy | None = None) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.around = Surroundings(lambda: self.now, lambda: jitter, lambda size: "0" * size, retry or RetryPolicy())

    def run(self, answers: list[Response | Unreachable]) -> Response:
        flow, given = exchange(self.around, Request("POST", "/v1/x")), iter(answers)
        wish = next(flow)
        try:
            while True:
                if isinstance(wish, Pause):
                    self.now += wish.seconds
                    self.pauses.append(wish.seconds)
                    wish = flow.send(None)
                else:
                    wish = flow.send(next(given))
        except StopIteration as done:
            answer: Response = done.value
            return answer


def busy(after: str = "7") -> Response:
    return Response(429, b'{"code":"quota_exceeded","detail":"Full."}', {"retry-after": after})


def test_retry_after_is_waited_out_whole_and_clients_come_back_apart() -> None:
    assert World().run([busy("7"), busy("9"), Response(200, b"")]).status == 200
    early, late = World(jitter=0.0), World(jitter=0.99)
    for world in (early, late):
        world.run([busy("7"), Response(200, b"")])
    assert early.pauses == [7.0]
    assert 7.0 < late.pauses[0] < 7.2


def test_a_client_that_may_not_wait_so_long_says_at_once_that_the_server_is_busy() -> None:
    world = World(retry=RetryPolicy(most_seconds=5))
    with pytest.raises(errors.QuotaExceededError):
        world.run([busy("7")])
    assert world.pauses == []


def test_pauses_double_up_to_the_longest() -> None:
    world = World(jitter=0.5, retry=RetryPolicy(first_pause=0.2, longest_pause=3.0))
    world.run([*[Unreachable("x")] * 6, Response(200, b"")])
    assert world.pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.5, 1.5])


NOW = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("after", "date", "seconds"),
    [("Wed, 21 Oct 2026 07:28:30 GMT", NOW, 30), ("Wed, 21 Oct 2026 07:27:00 GMT", NOW, 0), (NOW, "", 0)],
)
def test_a_moment_to_retry_after_counts_from_the_answers_own(after: str, date: str, seconds: float) -> None:
    assert retry_after(Response(503, b"", {"retry-after": after, "date": date})) == seconds


LASTING: dict[str, tuple[str, type[errors.TGTinkerError]]] = {
    "a full quota": ("429", errors.QuotaExceededError),
    "a ledger that cannot be written": ("503", errors.ServerUnavailableError),
    "a server that hangs up": ("drop before", errors.ServerUnreachableError),
}


@pytest.mark.parametrize(("fault", "kind"), LASTING.values(), ids=LASTING)
def test_what_lasts_is_told_by_its_type(fault: str, kind: type[errors.TGTinkerError], simulator: Simulator) -> None:
    policy = RetryPolicy(most_seconds=0.2, first_pause=0.02, longest_pause=0.05)
    with ServiceClient(simulator.url, API_KEY, retry=policy) as client:
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
    with ServiceClient(simulator.url, API_KEY, retry=RetryPolicy(most_seconds=0)) as client:
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
    assert 0 <= pause < 5.0


@pytest.mark.parametrize("text", ["", "Wed, 21 Oct 2026 07:28:00 GMT", "-3", "1.5", "²", "9" * 400])
def test_a_retry_after_that_is_no_number_of_seconds_is_left_out(text: str) -> None:
    pause = RetryPolicy(first_pause=0.2).pause(0, Response(503, b"", {"retry-after": text}), 0.5)
    assert pause == pytest.approx(0.1)
