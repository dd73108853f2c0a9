"""The five primitives over the wire, what they send, and what a caller gets back."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

import pytest
from tensorguard import commitment
from tg_tinker import (
    DPConfig,
    ForwardBackwardResult,
    ModelInfo,
    SamplingConfig,
    ServiceClient,
    TrainingClient,
    TrainingConfig,
    errors,
)

from tests.sdk import simulator as simulation
from tests.sdk.conftest import QUICK
from tests.sdk.simulator import Simulator

BATCH = {"input_ids": [[5, 6, 7]], "attention_mask": [[1, 1, 0]], "labels": [[5, 6, -100]]}


def test_a_run_is_created_found_listed_and_closed(client: ServiceClient, training: TrainingClient) -> None:
    assert training.training_client_id == "run-1"
    assert training.info.created_at == datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    again = client.get_training_client("run-1")
    assert again.info == training.info
    assert [info.training_client_id for info in client.list_training_clients()] == ["run-1"]
    assert training.close().status == "closed"
    with pytest.raises(errors.RunClosedError):
        training.optim_step()
    assert training.close().status == "closed"


def test_the_catalogue_says_what_a_run_may_start_from(simulator: Simulator, client: ServiceClient) -> None:
    async def listed() -> list[ModelInfo]:
        async with ServiceClient(simulator.url, simulation.API_KEY, retry=QUICK) as other:
            return await other.list_models_async()

    (model,) = client.list_models()
    assert (model.name, model.max_positions, model.has_chat_template) == ("small", 512, True)
    assert asyncio.run(listed()) == [model]


def test_the_primitives_give_their_typed_results(training: TrainingClient) -> None:
    evaluated = training.forward(BATCH).result(timeout=5)
    assert (evaluated.loss, evaluated.tokens_processed, evaluated.logprobs) == (1.0, 2, ((None, -1.0, None),))
    forward = training.forward_backward(BATCH).result(timeout=5)
    assert forward == ForwardBackwardResult(loss=2.5, grad_norm=0.75, tokens_processed=3, dp_metrics=None)
    step = training.optim_step(learning_rate=0.5).result(timeout=5)
    assert (step.step, step.learning_rate) == (1, 0.5)
    sampled = training.sample(["abc", "de"], SamplingConfig(max_tokens=3, seed=4)).result(timeout=5)
    assert [sample.completion for sample in sampled.samples] == ["cba", "ed"]
    assert (sampled.model_step, sampled.sampling_config.seed) == (1, 4)
    saved = training.save_state("first", include_optimizer=True, metadata={"by": "me"}).result(timeout=5)
    assert (saved.encryption.algorithm, saved.metadata) == ("AES-256-GCM", {"by": "me"})
    loaded = training.load_state(saved.artifact_id).result(timeout=5)
    assert (loaded.artifact_id, loaded.step) == (saved.artifact_id, 1)


def test_the_async_twins_give_the_same(simulator: Simulator) -> None:
    async def session() -> tuple[float, int, str, str]:
        async with ServiceClient(simulator.url, simulation.API_KEY, retry=QUICK) as client:
            training = await client.create_training_client_async(TrainingConfig(model_ref="small"))
            forward = await training.forward_backward_async(BATCH)
            assert (await (await training.forward_async(BATCH))).loss == 1.0
            step = await training.optim_step_async(max_grad_norm=1.0)
            loss = (await forward).loss
            steps = (await step.result(timeout=5)).step
            sample = await (await training.sample_async("abc")).result()
            saved = await (await training.save_state_async("x", include_optimizer=False)).result()
            loaded = await (await training.load_state_async(saved.artifact_id)).result()
            assert await forward.done()
            assert await forward.exception() is None
            assert loaded.artifact_id == saved.artifact_id
            assert (await client.list_training_clients_async())[0].step == 1
            assert len(await client.get_audit_logs_async(limit=3)) == 3
            handle = await client.get_future_async(forward.future_id)
            assert (await handle).loss == loss
            closed = await training.close_async()
            return loss, steps, sample.samples[0].completion, closed.status

    assert asyncio.run(session()) == (2.5, 1, "cba", "closed")


def test_one_client_serves_several_event_loops(simulator: Simulator) -> None:
    client = ServiceClient(simulator.url, simulation.API_KEY, retry=QUICK)
    training = client.create_training_client(TrainingConfig(model_ref="small"))

    async def steps() -> int:
        futures = [await training.optim_step_async() for _ in range(3)]
        results = await asyncio.gather(*futures)
        await client._transport._clients.pop(asyncio.get_running_loop()).aclose()
        return max(result.step for result in results)

    assert [asyncio.run(steps()) for _ in range(2)] == [3, 6]
    client.close()


def test_many_threads_share_a_client(training: TrainingClient) -> None:
    steps: list[int] = []

    def work() -> None:
        steps.extend(training.optim_step().result(timeout=10).step for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(steps) == list(range(1, 21))


def test_the_handle_keeps_the_salt_that_opens_the_commitment(training: TrainingClient) -> None:
    handle = training.forward_backward(BATCH)
    handle.result(timeout=5)
    held = handle.commitment
    assert held is not None
    assert held.salt is not None
    commitment.check(bytes.fromhex(held.digest), bytes.fromhex(held.salt), commitment.canonical(BATCH))
    assert training.optim_step().commitment is None


def test_each_batch_has_a_salt_of_its_own(training: TrainingClient) -> None:
    digests = {training.forward_backward(BATCH).commitment.digest for _ in range(3)}  # type: ignore[union-attr]
    assert len(digests) == 3


def test_a_server_that_commits_to_other_data_is_found_out(simulator: Simulator, training: TrainingClient) -> None:
    simulator.forged_digest = "00" * 32
    with pytest.raises(errors.CommitmentMismatchError):
        training.forward_backward(BATCH)


def test_the_key_travels_in_a_header_and_no_error_shows_it(simulator: Simulator) -> None:
    with ServiceClient(simulator.url, "tg-key-wrong", retry=QUICK) as client:
        with pytest.raises(errors.AuthenticationError) as caught:
            client.list_training_clients()
        assert "tg-key-wrong" not in f"{caught.value!r} {caught.value} {client!r}"
    assert simulator.seen[-1].headers["authorization"] == "Bearer tg-key-wrong"


def test_what_the_server_cannot_do_is_refused_with_its_type(client: ServiceClient) -> None:
    refused = {
        errors.UnknownModelError: TrainingConfig(model_ref="absent"),
        errors.DPNotAvailableError: TrainingConfig(model_ref="small", dp_config=DPConfig(noise_multiplier=1.0)),
    }
    for kind, config in refused.items():
        with pytest.raises(kind):
            client.create_training_client(config)


@pytest.mark.parametrize("given", ["", "nowhere", "ftp://host"])
def test_a_missing_or_foolish_address_is_refused_at_once(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TG_TINKER_BASE_URL", raising=False)
    with pytest.raises(errors.ConfigurationError, match="TG_TINKER_BASE_URL"):
        ServiceClient(given, "key")


def test_address_and_key_come_from_the_environment(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TG_TINKER_API_KEY", raising=False)
    monkeypatch.setenv("TG_TINKER_BASE_URL", simulator.url + "/")
    with pytest.raises(errors.AuthenticationError, match="TG_TINKER_API_KEY"):
        ServiceClient()
    monkeypatch.setenv("TG_TINKER_API_KEY", simulation.API_KEY)
    with ServiceClient() as client:
        assert client.list_training_clients() == []


def test_an_id_cannot_lead_to_another_path(simulator: Simulator, client: ServiceClient) -> None:
    with pytest.raises(errors.UnknownFutureError):
        client.get_future("../training_clients?x=")
    assert simulator.seen[-1].path == "/v1/futures/..%2Ftraining_clients%3Fx%3D"


def test_a_misspelt_setting_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="model_reff"):
        TrainingConfig.model_validate({"model_reff": "small"})


NO_ADDRESSES = ("http://[", "http://", "http://127.0.0.1:99999", "http://127.0.0.1:0", "127.0.0.1:8000", "ftp://x")


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address_is_said_at_once(url: str) -> None:
    with pytest.raises(errors.ConfigurationError):
        ServiceClient(url, simulation.API_KEY)


@pytest.mark.parametrize("key", ["tg-key-\u00e9", "tg-key-a b", "tg-key-a\r\nX-Other: b"])
def test_what_is_no_key_is_said_at_once_and_not_repeated(key: str) -> None:
    with pytest.raises(errors.AuthenticationError) as raised:
        ServiceClient("http://127.0.0.1:1", key)
    assert key not in str(raised.value)


def test_a_key_with_its_line_end_is_that_key(simulator: Simulator) -> None:
    with ServiceClient(simulator.url, simulation.API_KEY + "\n") as client:
        assert client.list_training_clients() == []


def test_metadata_without_a_json_form_is_refused_and_never_changed(client: ServiceClient) -> None:
    for value in (float("nan"), "\ud800", object()):
        with pytest.raises(errors.InvalidRequestError):
            client.create_training_client(TrainingConfig(model_ref="small", metadata={"k": value}))
    assert client.list_training_clients() == []
