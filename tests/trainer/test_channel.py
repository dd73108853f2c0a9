from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from processors.channel import ChannelClient, ChannelLimits, SideChannel, pack_input, unpack_input
from processors.errors import ChannelClosedError, ChannelFullError

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


def _frame(header: bytes, body_size: bytes = bytes(8)) -> bytes:
    return len(header).to_bytes(4, "big") + header + body_size


GARBAGE = {
    "a header that is too long": b"\xff\xff\xff\xff",
    "a header that is no JSON": _frame(b"{]"),
    "a header that is no object": _frame(b"[]"),
    "an operation that there is not": _frame(b'{"op":"x"}'),
    "no operation": _frame(b"{}"),
    "an id that is no hex": _frame(b'{"op":"input","id":"xyzzy"}'),
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
