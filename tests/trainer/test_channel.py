from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from processors.channel import ChannelClient, ChannelLimits, SideChannel, pack_input, unpack_input
from processors.errors import ChannelClosedError, ChannelFullError
from processors.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE, TWO = b"1" * 16, b"2" * 16


@pytest.fixture
def channel() -> SideChannel:
    return SideChannel(ChannelLimits(input_bytes=1 << 23, one_input_bytes=1 << 22, result_bytes=100, result_seconds=60))


@pytest.fixture
def client(channel: SideChannel) -> Iterator[ChannelClient]:
    client = ChannelClient(channel.connect().child)
    yield client
    client.close()


def test_an_input_reaches_the_child_until_it_is_dropped(channel: SideChannel, client: ChannelClient) -> None:
    data = pack_input(bytes(32), bytes(range(256)) * 8192)
    channel.put_input(ONE, data)
    assert client.input(ONE) == data
    assert unpack_input(data) == (bytes(32), data[32:])
    assert channel.bytes_in_flight == len(data)
    client.drop_input(ONE)
    assert client.input(ONE) is None
    assert (channel.has_input(ONE), channel.bytes_in_flight) == (False, 0)


def test_an_empty_input_is_not_a_missing_one(channel: SideChannel, client: ChannelClient) -> None:
    channel.put_input(ONE, b"")
    assert client.input(ONE) == b""


def test_a_result_is_with_the_parent_when_the_child_goes_on(channel: SideChannel, client: ChannelClient) -> None:
    client.put_result(ONE, b"text")
    assert channel.result(ONE) == b"text"
    assert channel.result(TWO) is None


def test_a_child_says_when_it_is_ready(channel: SideChannel) -> None:
    connection = channel.connect()
    client = ChannelClient(connection.child)
    assert not connection.ready.is_set()
    client.ready("worker")
    assert connection.ready.is_set()


def test_inputs_have_a_limit_alone_and_together(channel: SideChannel) -> None:
    with pytest.raises(ChannelFullError):
        channel.put_input(ONE, bytes((1 << 22) + 1))
    channel.put_input(ONE, bytes(1 << 22))
    channel.put_input(ONE, bytes(1 << 22))
    channel.put_input(TWO, bytes(1 << 22))
    with pytest.raises(ChannelFullError):
        channel.put_input(b"3" * 16, b"x")
    channel.drop_input(TWO)
    channel.put_input(b"3" * 16, b"x")


def test_results_end_with_their_time() -> None:
    now = [0.0]
    channel = SideChannel(ChannelLimits(result_seconds=60), clock=lambda: now[0])
    channel.put_result(ONE, b"text")
    now[0] = 59.0
    assert channel.result(ONE) == b"text"
    now[0] = 60.0
    assert channel.result(ONE) is None


def test_the_oldest_results_give_way(channel: SideChannel) -> None:
    channel.put_result(ONE, bytes(60))
    channel.put_result(TWO, bytes(60))
    assert channel.result(ONE) is None
    assert channel.result(TWO) == bytes(60)


def test_requests_of_several_threads_do_not_mix(channel: SideChannel, client: ChannelClient) -> None:
    ids = [bytes([number]) * 16 for number in range(8)]
    for operation_id in ids:
        channel.put_input(operation_id, operation_id * 1000)
    found: dict[bytes, bytes | None] = {}

    def ask(operation_id: bytes) -> None:
        for _ in range(20):
            found[operation_id] = client.input(operation_id)

    threads = [threading.Thread(target=ask, args=(operation_id,)) for operation_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {operation_id: operation_id * 1000 for operation_id in ids}


def test_a_child_notices_that_its_parent_is_gone(channel: SideChannel) -> None:
    connection, gone = channel.connect(), threading.Event()
    client = ChannelClient(connection.child.dup(), on_close=gone.set)
    connection.close()
    assert gone.wait(10)
    with pytest.raises(ChannelClosedError):
        client.input(ONE)


def test_a_parent_notices_that_its_child_is_gone(channel: SideChannel) -> None:
    connection = channel.connect()
    ChannelClient(connection.child).close()
    assert connection.closed.wait(10)


def test_a_reader_gets_the_frames_of_its_operation_and_then_the_end(
    channel: SideChannel, client: ChannelClient
) -> None:
    with channel.stream_reader(ONE) as reader, channel.stream_reader(TWO) as other:
        assert reader.read() == []
        for frame in (b"a", b"b"):
            client.stream(ONE, frame)
        client.end_stream(ONE)
        client.ready("everything before this has arrived")
        assert reader.read(10) == [b"a", b"b"]
        assert reader.read(10) is None
        assert other.read() == []


def test_a_late_reader_gets_what_is_held_and_is_told_of_more(channel: SideChannel, client: ChannelClient) -> None:
    client.stream(ONE, b"a")
    client.ready("everything before this has arrived")
    told = threading.Event()
    reader = channel.stream_reader(ONE, told.set)
    assert reader.read() == [b"a"]
    client.stream(ONE, b"b")
    assert told.wait(10)
    assert reader.read() == [b"b"]
    assert reader.missed == 0


def test_the_streams_of_a_child_end_with_it(channel: SideChannel) -> None:
    client = ChannelClient(channel.connect().child)
    reader = channel.stream_reader(ONE)
    client.stream(ONE, b"a")
    client.close()
    assert reader.read(10) == [b"a"]
    assert reader.read(10) is None


def test_a_slow_reader_is_told_how_many_frames_it_missed() -> None:
    streams = Streams(stream_bytes=10)
    reader = streams.reader(ONE)
    for number in range(5):
        streams.append(ONE, bytes([number]) * 4)
    assert reader.read() == [bytes([3]) * 4, bytes([4]) * 4]
    assert reader.missed == 3


def test_nothing_is_held_of_a_stream_that_ended_or_never_began() -> None:
    streams = Streams()
    streams.append(ONE, b"a")
    streams.end(ONE)
    streams.end(ONE)
    streams.reader(TWO).close()
    assert len(streams) == 0


def _frame(header: bytes, body_size: bytes = bytes(8)) -> bytes:
    return len(header).to_bytes(4, "big") + header + body_size


GARBAGE = {
    "a header that is too long": b"\xff\xff\xff\xff",
    "a header that is no JSON": _frame(b"{]"),
    "a header that is no object": _frame(b"[]"),
    "an operation that there is not": _frame(b'{"op":"x"}'),
    "no operation": _frame(b"{}"),
    "an id that is no hex": _frame(b'{"op":"input","id":"xyzzy"}'),
    "a frame of nothing": _frame(b'{"op":"stream"}'),
    "an id that is no text": _frame(b'{"op":"input","id":7}'),
    "a body that is too long": _frame(b"{}", b"\xff" * 8),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_garbage_ends_the_connection_and_not_the_channel(channel: SideChannel, data: bytes) -> None:
    connection = channel.connect()
    connection.child.sendall(data)
    assert connection.closed.wait(10)
    channel.put_input(ONE, b"x")
    assert ChannelClient(channel.connect().child).input(ONE) == b"x"
