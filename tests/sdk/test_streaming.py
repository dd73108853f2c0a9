from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from tg_tinker import errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tg_tinker import FutureHandle, TrainingClient
    from tg_tinker.types import SampleDelta

    from tests.sdk.simulator import Simulator


def deltas(number: int, *texts: str) -> bytes:
    listed = [{"prompt_index": 0, "completion_index": 0, "text": text, "finish_reason": None} for text in texts]
    return f"id: {number}\nevent: deltas\ndata: {json.dumps(listed)}\n\n".encode()


def result(simulator: Simulator, handle: FutureHandle[Any]) -> bytes:
    return f"event: result\ndata: {json.dumps(simulator.future(handle.future_id))}\n\n".encode()


def texts(heard: Iterable[SampleDelta]) -> list[str]:
    return [delta.text for delta in heard]


def last_ids(simulator: Simulator) -> list[str | None]:
    return [seen.headers.get("last-event-id") for seen in simulator.seen if seen.path.endswith("/stream")]


def test_a_stream_gives_texts_and_then_the_result_is_there(simulator: Simulator, training: TrainingClient) -> None:
    handle = training.sample("abc")
    simulator.streamed.append(b": hello\n\n" + deltas(0, "c", "b") + deltas(1, "a") + result(simulator, handle))
    assert texts(handle.stream()) == ["c", "b", "a"]
    before = len(simulator.seen)
    assert handle.result().samples[0].completion == "cba"
    assert len(simulator.seen) == before


def test_a_broken_stream_goes_on_where_it_broke_off(simulator: Simulator, training: TrainingClient) -> None:
    handle = training.sample("abc")
    simulator.streamed.extend([deltas(0, "c"), b"", deltas(1, "b")[:-2], deltas(1, "b") + result(simulator, handle)])
    simulator.faults.extend(["drop before", "503"])
    assert texts(handle.stream()) == ["c", "b"]
    assert last_ids(simulator) == [None, None, None, "0", "0", "0"]


def test_asyncio_hears_the_same(simulator: Simulator, training: TrainingClient) -> None:
    async def session() -> list[str]:
        handle = await training.sample_async("abc")
        final = f"event: result\ndata: {json.dumps(simulator.future(handle.future_id))}\n\n".encode()
        simulator.streamed.extend([deltas(0, "c"), deltas(1, "b") + final])
        heard = [delta.text async for delta in handle.stream()]
        assert (await handle).samples[0].completion == "cba"
        return heard

    assert asyncio.run(session()) == ["c", "b"]


def test_a_sample_is_submitted_before_its_stream_is_read(simulator: Simulator, training: TrainingClient) -> None:
    heard = training.sample_stream("abc")
    assert simulator.seen[-1].path.endswith("/sample")
    future = next(iter(simulator.futures.values()))
    simulator.streamed.append(f"event: result\ndata: {json.dumps(simulator.future(future['future_id']))}\n\n".encode())
    assert texts(heard) == []


BROKEN: dict[str, tuple[bytes, type[errors.TGTinkerError]]] = {
    "something gave way": (b"event: gap\ndata: {}\n\n", errors.StreamGapError),
    "deltas that are no JSON": (b"event: deltas\ndata: {\n\n", errors.ProtocolError),
    "deltas that are no list": (b"event: deltas\ndata: {}\n\n", errors.ProtocolError),
    "a delta without a place": (b'event: deltas\ndata: [{"text": "a"}]\n\n', errors.ProtocolError),
    "a result that is none": (b"event: result\ndata: {}\n\n", errors.ProtocolError),
}


@pytest.mark.parametrize(("answer", "error"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_whole_stream_is_an_error(
    simulator: Simulator, training: TrainingClient, answer: bytes, error: type[errors.TGTinkerError]
) -> None:
    handle = training.sample("abc")
    simulator.streamed.append(answer)
    with pytest.raises(error):
        list(handle.stream())


def test_a_stream_of_an_operation_that_failed_ends_with_its_error(
    simulator: Simulator, training: TrainingClient
) -> None:
    handle = training.sample("abc")
    failed = {
        **simulator.future(handle.future_id),
        "status": "failed",
        "result": None,
        "error": {"code": "out_of_memory"},
    }
    simulator.streamed.append(deltas(0, "c") + f"event: result\ndata: {json.dumps(failed)}\n\n".encode())
    heard = []
    with pytest.raises(errors.WorkerOutOfMemoryError):
        heard.extend(each.text for each in handle.stream())


def test_a_stream_that_the_server_refuses_is_an_error_at_once(simulator: Simulator, training: TrainingClient) -> None:
    handle = training.sample("abc")
    training._transport._client.headers["Authorization"] = "Bearer tg-key-other"
    with pytest.raises(errors.AuthenticationError):
        list(handle.stream())
    assert last_ids(simulator) == [None]
