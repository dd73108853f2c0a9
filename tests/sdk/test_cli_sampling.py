"""Samplers and streams on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tg_tinker.cli.main import run

from tests.sdk import simulator as simulation
from tests.sdk.test_streaming import deltas

if TYPE_CHECKING:
    from tests.sdk.simulator import Simulator

Captured = pytest.CaptureFixture[str]
ENDED = [{"prompt_index": 1, "completion_index": 0, "text": "ed", "finish_reason": "stop"}]


@pytest.fixture
def sampler(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> str:
    monkeypatch.setenv("TG_TINKER_BASE_URL", simulator.url)
    monkeypatch.setenv("TG_TINKER_API_KEY", simulation.API_KEY)
    assert run(["samplers", "create", "small", "--seed", "5", "--json"]) == 0
    made: str = json.loads(capsys.readouterr().out)["sampler_id"]
    return made


def streams(simulator: Simulator, *events: bytes) -> None:
    """Let the next stream be these events; it ends with a future that has finished."""
    ended = {
        "future_id": "00",
        "training_client_id": "sampler-1",
        "kind": "sample",
        "status": "completed",
        "op_seq": 1,
        "created_at": simulation.NOW,
        "generation": 0,
        "position": {"chain": "acme", "seq": 1},
        "result": {
            "samples": [],
            "model_step": 0,
            "sampling_config": {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "seed": None},
        },
    }
    simulator.streamed.append(b"".join(events) + f"event: result\ndata: {json.dumps(ended)}\n\n".encode())


def test_a_sampler_is_opened_sampled_listed_and_closed(simulator: Simulator, sampler: str, capsys: Captured) -> None:
    assert simulator.samplers[sampler]["seed"] == 5
    assert run(["samplers", "sample", sampler, "abc", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"][0]["completion"] == "cba"
    assert run(["samplers", "close", sampler, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "closed"
    assert run(["samplers", "list", "--json"]) == 0
    assert [each["sampler_id"] for each in json.loads(capsys.readouterr().out)] == [sampler]
    assert run(["samplers", "sample", sampler, "abc"]) == 5


def test_a_checkpoint_is_opened_by_its_id(simulator: Simulator, sampler: str, capsys: Captured) -> None:
    assert run(["samplers", "create", "--artifact", "ab" * 16]) == 0
    assert [each["artifact_id"] for each in simulator.samplers.values()] == [None, "ab" * 16]


@pytest.mark.parametrize("arguments", [["create"], ["create", "small", "--artifact", "ab" * 16]])
def test_a_sampler_stands_on_one_thing(arguments: list[str], sampler: str, capsys: Captured) -> None:
    assert run(["samplers", *arguments]) == 2
    assert "Give MODEL or --artifact" in capsys.readouterr().err


def test_a_single_text_is_printed_as_it_grows(simulator: Simulator, sampler: str, capsys: Captured) -> None:
    streams(simulator, deltas(0, "[c", "b"), deltas(1, "a"))
    assert run(["samplers", "sample", sampler, "abc", "--stream"]) == 0
    assert capsys.readouterr().out == "[cba\n"


def test_of_several_texts_each_is_printed_when_it_is_whole(
    simulator: Simulator, sampler: str, capsys: Captured
) -> None:
    ended = f"id: 1\nevent: deltas\ndata: {json.dumps(ENDED)}\n\n".encode()
    streams(simulator, deltas(0, "never whole"), ended)
    assert run(["samplers", "sample", sampler, "abc", "abd", "--stream"]) == 0
    assert capsys.readouterr().out == "prompt 1, completion 0:\ned\n\n"


def test_programs_get_a_line_for_each_piece_and_the_result_last(
    simulator: Simulator, sampler: str, capsys: Captured
) -> None:
    streams(simulator, deltas(0, "c", "b"))
    assert run(["samplers", "sample", sampler, "abc", "--stream", "--json"]) == 0
    *pieces, result = map(json.loads, capsys.readouterr().out.splitlines())
    assert [each["text"] for each in pieces] == ["c", "b"]
    assert result["samples"] == []


def test_a_run_is_streamed_too(simulator: Simulator, sampler: str, capsys: Captured) -> None:
    assert run(["clients", "create", "small", "--json"]) == 0
    run_id = json.loads(capsys.readouterr().out)["training_client_id"]
    streams(simulator, deltas(0, "cba"))
    assert run(["sample", run_id, "abc", "--stream"]) == 0
    assert capsys.readouterr().out == "cba\n"


@pytest.mark.parametrize("other", [["--no-wait"], ["--timeout", "3"]])
def test_a_stream_is_listened_to_until_its_end(
    other: list[str], simulator: Simulator, sampler: str, capsys: Captured
) -> None:
    assert run(["samplers", "sample", sampler, "abc", "--stream", *other]) == 2
    assert simulator.futures == {}
