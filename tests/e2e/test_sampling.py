"""Sampling through a server: many callers at once, streams, cancellation, samplers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tg_tinker import LoRAConfig, OptimizerConfig, SamplingConfig, ServiceClient, TrainingConfig, errors

from tests.support.catalogue import add_model
from tests.support.server import LiveServer, tensorguard_json
from tests.support.tiny_model import build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tg_tinker import TrainingClient

TOKENS = [11, 97, 23, 89, 31, 83]
BATCH = {"input_ids": [TOKENS], "attention_mask": [[1] * len(TOKENS)], "labels": [TOKENS]}
GREEDY = SamplingConfig(max_tokens=8, temperature=0.0)
CHAT = [{"role": "user", "content": "to be?"}]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    directory = tmp_path_factory.mktemp("sampling")
    data_dir = directory / "data"
    add_model(data_dir, "tiny", build_tiny_model(directory / "model"))
    key = tensorguard_json("keys", "issue", "--data-dir", data_dir, "--tenant", "acme")["api_key"]
    server = LiveServer(data_dir, directory / "server.log").start()
    try:
        with ServiceClient(base_url=server.url, api_key=key) as opened:
            yield opened
    finally:
        server.stop()


def run(client: ServiceClient, seed: int, lora: LoRAConfig | None) -> TrainingClient:
    """A run that has moved away from the base."""
    optimizer = OptimizerConfig(learning_rate=2e-2)
    training = client.create_training_client(
        TrainingConfig(model_ref="tiny", lora_config=lora, optimizer=optimizer, seed=seed)
    )
    for _ in range(2):
        training.forward_backward(BATCH)
        training.optim_step()
    return training


@pytest.fixture(scope="module")
def runs(client: ServiceClient) -> list[TrainingClient]:
    """Two adapters, and a run of all weights."""
    lora = LoRAConfig(rank=4, alpha=8, target_modules=["q_proj", "v_proj"])
    return [run(client, 1, lora), run(client, 2, lora), run(client, 3, None)]


def test_sixteen_callers_at_once_get_what_each_gets_alone(client: ServiceClient, runs: list[TrainingClient]) -> None:
    bare = client.create_sampling_client("tiny")
    configs = [
        SamplingConfig(max_tokens=10, temperature=n % 2, top_k=n % 3 * 20, seed=n, n=1 + n % 2) for n in range(16)
    ]

    def ask(number: int) -> list[str]:
        caller = [bare, *runs][number % 4]
        found = caller.sample([f"to be {number}", "or not"], configs[number]).result(timeout=120)
        return [sample.completion for sample in found.samples]

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(16)))
    assert together == [ask(number) for number in range(16)]


def test_a_sampler_of_a_checkpoint_says_what_its_run_says(client: ServiceClient, runs: list[TrainingClient]) -> None:
    for training in (runs[0], runs[2]):
        artifact = training.save_state("here").result(timeout=60).artifact_id
        sampler = client.create_sampling_client(artifact_id=artifact)
        found = sampler.sample([TOKENS], GREEDY).result(timeout=60)
        assert found.samples == training.sample([TOKENS], GREEDY).result(timeout=60).samples
        assert found.model_step == sampler.info.step == 2
        sampler.close()
        with pytest.raises(errors.RunClosedError):
            sampler.sample("a")


def test_texts_stream_while_they_are_generated(client: ServiceClient, runs: list[TrainingClient]) -> None:
    handle = runs[0].sample(["to be", "or not"], SamplingConfig(max_tokens=60, n=2, seed=5))
    texts: dict[tuple[int, int], str] = {}
    for delta in handle.stream():
        place = delta.prompt_index, delta.completion_index
        texts[place] = texts.get(place, "") + delta.text
    samples = handle.result().samples
    assert texts == {(each.prompt_index, each.completion_index): each.completion for each in samples}

    async def session() -> str:
        async with ServiceClient(client.base_url, client._transport._options["headers"]["Authorization"][7:]) as other:
            sampler = await other.create_sampling_client_async("tiny")
            stream = await sampler.sample_stream_async("to be", SamplingConfig(max_tokens=60, seed=5))
            return "".join([delta.text async for delta in stream])

    alone = client.create_sampling_client("tiny").sample("to be", SamplingConfig(max_tokens=60, seed=5))
    assert asyncio.run(session()) == alone.result(timeout=60).samples[0].completion


def test_a_long_sample_is_cancelled_while_it_is_generated(client: ServiceClient) -> None:
    sampler = client.create_sampling_client("tiny")
    handle = sampler.sample(["to be"] * 64, SamplingConfig(max_tokens=100, n=4, seed=1))
    stream = handle.stream()
    next(stream)
    assert handle.cancel()
    with pytest.raises(errors.CancelledError):
        for _ in stream:
            pass
    assert sampler.sample("to be", GREEDY).result(timeout=60).samples


def test_a_chat_without_a_template_is_refused_at_once(client: ServiceClient) -> None:
    with pytest.raises(errors.ChatTemplateRefusedError):
        client.create_sampling_client("tiny").sample(CHAT, GREEDY)
