"""Streams of futures: what they say, in which order, and when they end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from api.streaming import GAP, Listening
from processors.exchange.hub import Hub
from processors.exchange.server import listening
from processors.exchange.trainer import TrainerClient
from tests.support.doors import Doors, open_doors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processors.exchange.port import StreamReader

DELTAS = [[{"prompt_index": 0, "completion_index": 0, "text": text, "finish_reason": None}] for text in "abc"]


@pytest.fixture
def doors(data_dir: Path) -> Iterator[Doors]:
    hub = Hub()
    with listening(hub, data_dir), open_doors(data_dir, exchange=hub) as opened:
        yield opened


@pytest.fixture
def trainer(doors: Doors) -> Iterator[TrainerClient]:
    """The trainer's end of the exchange."""
    client = TrainerClient(doors.platform.installation.data_dir, "worker")
    yield client
    client.close()


def sampled(doors: Doors) -> tuple[str, Any]:
    """A run that a worker has, and the future of a sample."""
    run = doors.create()
    future = doors.operate(run, "sample", {"prompts": ["a"]})
    doors.worker.take(run)
    return run, future


def stream(doors: Doors, future: Any, last: int | None = None, **query: Any) -> list[tuple[str | None, str, Any]]:
    """The events of a future's stream: id, name and data of each."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    response = doors.call("GET", f"/v1/futures/{future['future_id']}/stream", headers=headers, params=query)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    blocks = [block for block in response.text.split("\n\n") if block and not block.startswith(":")]
    fields = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [(each.get("id"), each["event"], json.loads(each["data"])) for each in fields]


def told(trainer: TrainerClient, future: Any) -> None:
    for delta in DELTAS:
        trainer.stream(bytes.fromhex(future["future_id"]), json.dumps(delta).encode())
    trainer.ready()  # answered after what was sent before it


def test_a_stream_gives_what_came_before_and_the_future_at_its_end(doors: Doors, trainer: TrainerClient) -> None:
    _, future = sampled(doors)
    told(trainer, future)
    doors.worker.fail(future, "out_of_memory")
    *deltas, (number, name, final) = stream(doors, future)
    assert deltas == [(str(index), "deltas", each) for index, each in enumerate(DELTAS)]
    assert (number, name, final["status"], final["error"]["code"]) == (None, "result", "failed", "out_of_memory")


def test_a_listener_that_comes_back_gets_what_it_has_not_had(doors: Doors, trainer: TrainerClient) -> None:
    _, future = sampled(doors)
    told(trainer, future)
    doors.worker.fail(future, "out_of_memory")
    assert [number for number, name, _ in stream(doors, future, last=1) if name == "deltas"] == ["2"]
    assert [name for _, name, _ in stream(doors, future, last=2)] == ["result"]


def test_a_listener_hears_that_something_gave_way(doors: Doors, trainer: TrainerClient) -> None:
    _, future = sampled(doors)
    for _ in range(3):
        trainer.stream(bytes.fromhex(future["future_id"]), b'"' + b"x" * 600_000 + b'"')
    trainer.ready()
    doors.worker.fail(future, "out_of_memory")
    assert [(number, name) for number, name, _ in stream(doors, future)] == [
        (None, "gap"),
        ("2", "deltas"),
        (None, "result"),
    ]
    assert [name for _, name, _ in stream(doors, future, last=1)] == ["deltas", "result"]


def lost(doors: Doors, trainer: TrainerClient, future: Any) -> StreamReader:
    """The trainer goes; a reader of its stream, who has read to the end."""
    reader = doors.platform.exchange.stream_reader(bytes.fromhex(future["future_id"]))
    trainer.close()
    while reader.read(10) is not None:
        pass
    return reader


def test_what_another_trainer_generates_is_not_taken_for_the_rest(doors: Doors, trainer: TrainerClient) -> None:
    _, future = sampled(doors)
    told(trainer, future)
    lost(doors, trainer, future)
    successor = TrainerClient(doors.platform.installation.data_dir, "successor")
    told(successor, future)
    doors.worker.fail(future, "out_of_memory")
    assert [name for _, name, _ in stream(doors, future, last=1)] == ["gap", *["deltas"] * 3, "result"]
    assert [name for _, name, _ in stream(doors, future)] == ["deltas"] * 3 + ["result"]
    successor.close()


def test_who_listens_while_the_trainer_is_lost_hears_so(doors: Doors, trainer: TrainerClient) -> None:
    _, future = sampled(doors)
    told(trainer, future)
    platform = doors.platform
    listening = Listening(
        platform.futures, platform.exchange, platform.waiters, doors.worker.tenant, future["future_id"]
    )
    assert listening._news(lost(doors, trainer, future)) == GAP


def test_a_finished_future_has_its_result_alone(doors: Doors, trainer: TrainerClient) -> None:
    _, future = sampled(doors)
    told(trainer, future)
    trainer.end_stream(bytes.fromhex(future["future_id"]))
    trainer.ready()
    doors.worker.fail(future, "out_of_memory")
    assert [name for _, name, _ in stream(doors, future)] == ["result"]


def test_a_cancelled_future_ends_its_stream(doors: Doors) -> None:
    _, future = sampled(doors)
    doors.post(f"/v1/futures/{future['future_id']}/cancel")
    doors.worker.fail(future, "cancelled")
    assert stream(doors, future)[-1][2]["status"] == "cancelled"


def test_a_stream_ends_after_its_time(doors: Doors, trainer: TrainerClient) -> None:
    _, future = sampled(doors)
    told(trainer, future)
    assert [name for _, name, _ in stream(doors, future, timeout=0.2)] == ["deltas"] * 3
    assert stream(doors, future, timeout=0) == []


def test_a_stream_of_another_tenant_does_not_exist(doors: Doors) -> None:
    _, future = sampled(doors)
    response = doors.call("GET", f"/v1/futures/{future['future_id']}/stream", key=doors.other_key)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_future")


@pytest.mark.parametrize("last", ["x", "-1", "1.5", ""])
def test_an_id_that_no_event_has_is_refused(doors: Doors, last: str) -> None:
    _, future = sampled(doors)
    path = f"/v1/futures/{future['future_id']}/stream"
    response = doors.call("GET", path, headers={"Last-Event-ID": last}, params={"timeout": 0})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_streams_end_when_the_server_stops(doors: Doors) -> None:
    _, future = sampled(doors)
    doors.platform.waiters.close()
    assert stream(doors, future) == []
