"""What doors may rely on, whether the hub is in their process or behind a socket."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from processors.exchange.door import DoorClient
from processors.exchange.errors import ExchangeFullError
from processors.exchange.hub import Hub
from processors.exchange.limits import ExchangeLimits
from processors.exchange.port import pack_input, unpack_input
from processors.exchange.server import listening
from processors.exchange.trainer import TrainerClient
from processors.measures import Measures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from processors.exchange.port import Exchange, StreamReader

ONE, TWO, THREE = b"1" * 16, b"2" * 16, b"3" * 16
PATIENCE = 20.0
LIMITS = ExchangeLimits(input_bytes=1 << 21, one_input_bytes=1 << 20, result_bytes=100, salts=2, listening=3)


@dataclass
class Opened:
    """An exchange as doors have it, and its trainer."""

    exchange: Exchange
    hub: Hub
    trainer: TrainerClient
    data_dir: Path
    now: list[float]


@pytest.fixture(params=["in its process", "behind a socket"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    now = [0.0]
    hub = Hub(LIMITS, clock=lambda: now[0], first_frame=1000)
    with ExitStack() as stack:
        stack.enter_context(listening(hub, tmp_path))
        exchange: Exchange = hub
        if request.param != "in its process":
            client = exchange = stack.enter_context(DoorClient(tmp_path))
            assert client.wait_connected(PATIENCE)
        trainer = TrainerClient(tmp_path, "worker")
        stack.callback(trainer.close)
        yield Opened(exchange, hub, trainer, tmp_path, now)


def everything(reader: StreamReader, until: Callable[[list[bytes]], bool] = lambda _: False) -> list[bytes]:
    """The frames of a stream to its end, or until there are enough."""
    found: list[bytes] = []
    while (frames := reader.read(PATIENCE)) is not None:
        assert frames, "nothing came"
        found += frames
        if until(found):
            break
    return found


def test_an_input_reaches_the_trainer_until_it_is_dropped(opened: Opened) -> None:
    data = pack_input(bytes(32), b"canonical")
    opened.exchange.put_input(ONE, data)
    assert opened.trainer.input(ONE) == opened.exchange.input(ONE) == data
    assert unpack_input(data) == (bytes(32), b"canonical")
    assert opened.exchange.figures().input_bytes == len(data)
    assert (opened.exchange.has_input(ONE), opened.exchange.has_input(TWO)) == (True, False)
    opened.trainer.drop_input(ONE)
    assert opened.trainer.input(ONE) is None
    assert opened.exchange.input(ONE) is None
    assert (opened.exchange.has_input(ONE), opened.exchange.figures().input_bytes) == (False, 0)


def test_an_empty_input_is_not_a_missing_one(opened: Opened) -> None:
    opened.exchange.put_input(ONE, b"")
    assert (opened.trainer.input(ONE), opened.trainer.input(TWO)) == (b"", None)
    assert (opened.exchange.input(ONE), opened.exchange.input(TWO)) == (b"", None)


def test_inputs_have_a_limit_alone_and_together(opened: Opened) -> None:
    with pytest.raises(ExchangeFullError):
        opened.exchange.put_input(ONE, bytes((1 << 20) + 1))
    for operation_id in (ONE, ONE, TWO):
        opened.exchange.put_input(operation_id, bytes(1 << 20))
    with pytest.raises(ExchangeFullError):
        opened.exchange.put_input(THREE, b"x")
    opened.exchange.drop_input(TWO)
    opened.exchange.put_input(THREE, b"x")


def test_an_input_that_was_dropped_does_not_come_back(opened: Opened) -> None:
    """A repeated request may put it again when its operation is done: nobody would drop it a second time."""
    opened.exchange.put_input(ONE, pack_input(b"s" * 32, b"canonical"))
    opened.trainer.drop_input(ONE)
    opened.exchange.put_input(ONE, pack_input(b"s" * 32, b"canonical"))
    assert opened.exchange.figures().input_bytes == 0


def test_inputs_are_listed_that_lie_there_for_long(opened: Opened) -> None:
    for operation_id in (TWO, ONE, THREE):
        opened.exchange.put_input(operation_id, b"x")
        opened.now[0] += 10
    opened.exchange.drop_input(TWO)
    assert list(opened.exchange.inputs_older_than(15)) == [ONE]
    assert list(opened.exchange.inputs_older_than(5)) == [ONE, THREE]
    assert list(opened.exchange.inputs_older_than(50)) == []


def test_a_salt_is_known_longer_than_its_input(opened: Opened) -> None:
    for operation_id in (ONE, TWO, THREE):
        opened.exchange.put_input(operation_id, pack_input(operation_id * 2, b"canonical"))
    assert opened.exchange.salt(ONE) == ONE * 2
    for operation_id in (ONE, TWO, THREE):
        opened.exchange.drop_input(operation_id)
    assert [opened.exchange.salt(each) for each in (ONE, TWO, THREE)] == [None, TWO * 2, THREE * 2]
    assert opened.exchange.salt(b"4" * 16) is None


def test_a_result_is_at_the_doors_when_the_trainer_goes_on(opened: Opened) -> None:
    opened.trainer.put_result(ONE, b"text")
    assert (opened.exchange.result(ONE), opened.exchange.result(TWO)) == (b"text", None)
    assert opened.exchange.figures().result_bytes == 4


def test_results_are_kept_for_their_time(opened: Opened) -> None:
    opened.exchange.put_result(ONE, b"text")
    opened.now[0] = LIMITS.result_seconds - 1
    assert opened.exchange.result(ONE) == b"text"
    opened.now[0] = LIMITS.result_seconds + 1
    assert opened.exchange.result(ONE) is None


def test_the_oldest_results_give_way(opened: Opened) -> None:
    for operation_id in (ONE, TWO):
        opened.exchange.put_result(operation_id, bytes(60))
    assert (opened.exchange.result(ONE), opened.exchange.result(TWO)) == (None, bytes(60))


def test_a_reader_gets_the_frames_of_its_operation_and_then_the_end(opened: Opened) -> None:
    with opened.exchange.stream_reader(ONE) as reader, opened.exchange.stream_reader(TWO) as other:
        assert (reader.read(), reader.begin, reader.position) == ([], 1000, 1000)
        for frame in (b"a", b"", b"b"):
            opened.trainer.stream(ONE, frame)
        opened.trainer.end_stream(ONE)
        assert everything(reader) == [b"a", b"", b"b"]
        assert (reader.position, reader.missed, reader.lost) == (1003, 0, False)
        assert other.read() == []


def test_a_late_reader_gets_what_is_held_and_is_told_of_more(opened: Opened) -> None:
    opened.trainer.stream(ONE, b"a")
    opened.trainer.ready()  # answered after what was sent before it
    told = threading.Event()
    with opened.exchange.stream_reader(ONE, told.set) as reader:
        assert everything(reader, lambda found: len(found) == 1) == [b"a"]
        told.clear()
        opened.trainer.stream(ONE, b"b")
        assert told.wait(PATIENCE)
        assert reader.read(PATIENCE) == [b"b"]


def test_several_readers_of_one_stream_each_get_all_of_it(opened: Opened) -> None:
    with opened.exchange.stream_reader(ONE) as one, opened.exchange.stream_reader(ONE) as other:
        opened.trainer.stream(ONE, b"a")
        opened.trainer.end_stream(ONE)
        assert everything(one) == everything(other) == [b"a"]


def test_a_reader_that_was_slow_knows_how_much_it_missed(opened: Opened) -> None:
    with opened.exchange.stream_reader(ONE) as reader:
        for number in range(40):
            opened.trainer.stream(ONE, bytes([number]) * 100_000)
        opened.trainer.end_stream(ONE)
        read, numbers = everything(reader), reader.position - 1000
    assert numbers == 40
    assert len(read) + reader.missed == 40
    assert read[-1] == bytes([39]) * 100_000


def test_streams_break_off_with_the_trainer_that_fed_them(opened: Opened) -> None:
    with opened.exchange.stream_reader(ONE) as reader:
        opened.trainer.stream(ONE, b"a")
        opened.trainer.close()
        assert everything(reader) == [b"a"]
        assert reader.lost
    with opened.exchange.stream_reader(ONE) as again:
        assert again.begin > reader.position


def test_readers_leave_nothing_behind(opened: Opened) -> None:
    for _ in range(3 * LIMITS.listening):
        opened.exchange.stream_reader(ONE).close()
    opened.exchange.figures()  # answered after what was sent before it
    assert len(opened.hub.streams) == 0


def test_doors_hear_what_trainers_measured_and_which_are_ready(opened: Opened) -> None:
    assert opened.exchange.figures().ready == ()
    opened.trainer.ready()
    opened.trainer.report(Measures({"sample": [0.1, 400.0]}, {"adapters": 2.0}).to_bytes())
    other = TrainerClient(opened.data_dir, "other")
    other.report(Measures({"sample": [0.3]}, {"adapters": 3.0}).to_bytes())
    told = opened.exchange.figures()
    assert (told.ready, told.levels) == (("worker",), {"adapters": 5.0})
    cumulative = dict(told.times["sample"].cumulative())
    assert (cumulative["0.05"], cumulative["0.1"], cumulative["0.5"], cumulative["+Inf"]) == (0, 1, 2, 3)
    other.close()
    assert opened.hub.wait_gone("other", PATIENCE)
    left = opened.exchange.figures()
    assert (left.levels, left.times["sample"].total) == ({"adapters": 2.0}, pytest.approx(400.4))


def test_requests_of_several_threads_do_not_mix(opened: Opened) -> None:
    ids = [bytes([number]) * 16 for number in range(8)]
    for operation_id in ids:
        opened.exchange.put_input(operation_id, operation_id * 1000)
    found: dict[tuple[str, bytes], bytes | None] = {}

    def ask(operation_id: bytes) -> None:
        for _ in range(20):
            found["trainer", operation_id] = opened.trainer.input(operation_id)
            found["door", operation_id] = opened.exchange.input(operation_id)

    threads = [threading.Thread(target=ask, args=(operation_id,)) for operation_id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {(who, each): each * 1000 for who in ("trainer", "door") for each in ids}
