"""Samples in a whole platform: they share passes, stop when asked to, and leave training its share."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest

from schemas import commands as c
from schemas import events as e
from tests.support.tiny_model import build_tiny_model
from tests.support.tiny_platform import TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 120


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyPlatform]:
    """A platform on a model that never ends a text by itself, and its worker."""
    model = build_tiny_model(tmp_path_factory.mktemp("model") / "endless")
    for name in ("config.json", "generation_config.json"):
        values = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps({**values, "eos_token_id": [383]}))
    with TinyPlatform(tmp_path_factory.mktemp("data"), model) as running, running.worker():
        yield running


def test_consecutive_samples_of_a_run_are_reported_in_their_order_and_before_what_follows(
    platform: TinyPlatform,
) -> None:
    run = platform.create_run("order")
    ids = [run.sample(["to be"], tokens) for tokens in (60, 2, 30)]
    ids.append(run.forward_backward([[1, 2, 3]]))
    run.outcome(ids[-1])
    ended = [event.operation_id for event in platform.events("order") if getattr(event, "operation_id", None) in ids]
    assert ended[-4:] == ids
    assert [len(run.result(each)["samples"][0]["token_ids"]) for each in ids[:3]] == [60, 2, 30]


def test_a_long_sample_does_not_hold_up_another_runs_training(platform: TinyPlatform) -> None:
    sampling, training = platform.create_run("long"), platform.create_run("other")
    long = [sampling.sample(["to be", "or not"] * 8, LONG, 1.0) for _ in range(2)]
    training.train(1, 1)
    pending = {each.operation_id for each in platform.events("long") if isinstance(each, e.SampleSubmitted)}
    ended = {each.operation_id for each in platform.events("long") if isinstance(each, e.SampleCompleted)}
    assert pending - ended
    for each in long:
        sampling.outcome(each)


def test_a_sample_that_is_being_generated_can_be_cancelled_and_its_neighbours_go_on(platform: TinyPlatform) -> None:
    run, other = platform.create_run("cancelled"), platform.create_run("neighbour")
    with platform.hub.stream_reader(gone := secrets.token_bytes(16)) as reader:
        run.sample(["to be"] * 16, LONG, 1.0, operation_id=gone)
        stays = other.sample(["to be"], 20)
        assert reader.read(30)
        platform.ask(c.RequestCancellation(run.run_id, gone), run.run_id).raise_for_outcome()
        assert isinstance(run.outcome(gone), e.OperationCancelled)
        while reader.read(30) is not None:
            pass
    assert isinstance(other.outcome(stays), e.SampleCompleted)


def test_what_is_streamed_is_the_text(platform: TinyPlatform) -> None:
    run = platform.create_run("streamed")
    frames: list[dict[str, Any]] = []
    with platform.hub.stream_reader(wanted := secrets.token_bytes(16)) as reader:
        run.sample(["to be", "or not"], 40, 1.0, operation_id=wanted, completions=2)
        while (read := reader.read(30)) is not None:
            frames += [delta for frame in read for delta in json.loads(frame)]
    run.outcome(wanted)
    for sample in run.result(wanted)["samples"]:
        place = (sample["prompt_index"], sample["completion_index"])
        own = [each for each in frames if (each["prompt_index"], each["completion_index"]) == place]
        assert "".join(each["text"] for each in own) == sample["completion"]
        assert own[-1]["finish_reason"] == sample["finish_reason"]


def test_a_bare_base_model_is_sampled_by_a_run_without_an_adapter(platform: TinyPlatform) -> None:
    bare = platform.create_sampler("bare")
    trained = platform.create_run("moved")
    trained.train(3, 2)
    runs = (bare, trained, platform.create_run("fresh"))
    asked = [(run, run.sample(["to be"], 8)) for run in runs]
    texts = [run.outcome(each) and run.result(each) for run, each in asked]
    tokens = [found["samples"][0]["token_ids"] for found in texts]
    assert tokens[0] == tokens[2] != tokens[1]


def test_a_saved_checkpoint_is_sampled_without_its_run(platform: TinyPlatform) -> None:
    run = platform.create_run("source")
    run.train(3, 2)
    saved = run.outcome(run.save_state("here", include_optimizer=False))
    wanted = run.sample(["to be"], 8)
    run.outcome(wanted)
    sampler = platform.create_sampler("of-checkpoint", saved)
    found = sampler.sample(["to be"], 8)
    done = sampler.outcome(found)
    assert done.step == saved.step == 2
    assert sampler.result(found)["samples"] == run.result(wanted)["samples"]
