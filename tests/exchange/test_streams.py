from __future__ import annotations

from processors.exchange.streams import Streams

ONE, TWO, THREE = b"1" * 16, b"2" * 16, b"3" * 16


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


def test_all_streams_together_hold_no_more_than_they_may() -> None:
    streams = Streams(stream_bytes=10, total_bytes=14)
    one, two = streams.reader(ONE), streams.reader(TWO)
    streams.append(ONE, bytes(8))
    for frame in (b"aaaa", b"bbbb"):
        streams.append(TWO, frame)
    assert (one.read(), two.read(), two.missed) == ([bytes(8)], [b"bbbb"], 1)
    streams.end(ONE)
    streams.append(TWO, b"cccc")
    assert two.read() == [b"cccc"]


def test_more_streams_than_there_may_be_are_not_held() -> None:
    streams = Streams(most=2)
    for operation_id in (ONE, TWO, THREE):
        streams.append(operation_id, b"a")
    assert len(streams) == 2
