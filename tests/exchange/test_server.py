"""The hub's socket: who may connect, what misbehaving clients can do, and what a roster hears."""

from __future__ import annotations

import os
import socket
import stat
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from processors.exchange import address
from processors.exchange.connection import Connection
from processors.exchange.door import DoorClient
from processors.exchange.errors import ExchangeAwayError, ExchangeFullError
from processors.exchange.frames import receive, send
from processors.exchange.hub import Hub
from processors.exchange.limits import ExchangeLimits
from processors.exchange.server import listening
from processors.exchange.trainer import TrainerClient

ONE = b"1" * 16
PATIENCE = 20.0


def said(data_dir: Path, hello: dict[str, Any]) -> socket.socket:
    """A raw connection that has said hello."""
    end = address.connected(data_dir)
    send(end, hello)
    assert receive(end, 0) == ({"ok": True}, b"")
    return end


DOOR, TRAINER = {"op": "hello", "as": "door"}, {"op": "hello", "as": "trainer", "worker": "raw"}


def closed(end: socket.socket) -> bool:
    """Whether the hub disconnects; whatever else it says, it is read."""
    end.settimeout(PATIENCE)
    try:
        while end.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    finally:
        end.close()
    return True


def _frame(header: bytes, body_size: bytes = bytes(8)) -> bytes:
    return len(header).to_bytes(4, "big") + header + body_size


GARBAGE = {
    "a header that is too long": b"\xff\xff\xff\xff",
    "a header that is no JSON": _frame(b"{]"),
    "a header of brackets": _frame(b"[" * 4000),
    "a header that is no object": _frame(b"[]"),
    "an operation that there is not": _frame(b'{"op":"x"}'),
    "an operation that is no text": _frame(b'{"op":[]}'),
    "no operation": _frame(b"{}"),
    "an id that is no hex": _frame(b'{"op":"input","id":"xyzzy"}'),
    "an id that is no text": _frame(b'{"op":"input","id":7}'),
    "an id of another length": _frame(b'{"op":"input","id":"00"}'),
    "no id": _frame(b'{"op":"input"}'),
    "a body that is too long": _frame(b'{"op":"put_input"}', b"\xff" * 8),
    "a body where there is none": _frame(b'{"op":"input","id":"%s"}' % (b"00" * 16), b"\0" * 7 + b"\1"),
    "hello again": _frame(b'{"op":"hello","as":"door"}'),
}
OF_DOORS = {
    "what trainers alone say": _frame(b'{"op":"ready"}'),
    "a reader without a number": _frame(b'{"op":"listen","id":"%s"}' % (b"00" * 16)),
    "a reader's number that is none": _frame(b'{"op":"unlisten","reader":"x"}'),
}
OF_TRAINERS = {
    "what doors alone ask": _frame(b'{"op":"result","id":"%s"}' % (b"00" * 16)),
    "a frame of nothing": _frame(b'{"op":"stream"}'),
}
SAID = [
    *((f"a door: {name}", DOOR, data) for name, data in (GARBAGE | OF_DOORS).items()),
    *((f"a trainer: {name}", TRAINER, data) for name, data in (GARBAGE | OF_TRAINERS).items()),
]


@pytest.mark.parametrize(("hello", "data"), [each[1:] for each in SAID], ids=[each[0] for each in SAID])
def test_garbage_ends_the_connection_and_not_the_hub(
    hub: Hub, tmp_path: Path, hello: dict[str, Any], data: bytes
) -> None:
    end = said(tmp_path, hello)
    end.sendall(data)
    assert closed(end)
    assert hub.wait_gone("raw", PATIENCE)
    hub.put_input(ONE, b"x")
    client = TrainerClient(tmp_path, "worker")
    assert client.input(ONE) == b"x"
    client.close()


@pytest.mark.parametrize(
    "hello",
    [
        {"op": "input", "id": "00" * 16},
        {"op": "hello"},
        {"op": "hello", "as": "signer"},
        {"op": "hello", "as": "trainer"},
        {"op": "hello", "as": "trainer", "worker": ""},
        {"op": "hello", "as": "trainer", "worker": "x" * 257},
        {"op": "hello", "as": "trainer", "worker": 7},
    ],
)
def test_who_does_not_say_who_it_is_is_disconnected(hub: Hub, tmp_path: Path, hello: dict[str, Any]) -> None:
    end = address.connected(tmp_path)
    send(end, hello)
    assert closed(end)
    assert hub.figures().ready == ()


def test_a_process_of_another_user_is_disconnected(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ExchangeAwayError):
        address.connected(tmp_path)
    assert hub.figures().ready == ()


def test_only_its_owner_reaches_the_socket(hub: Hub, tmp_path: Path) -> None:
    assert hub.figures().ready == ()
    modes = [stat.S_IMODE((tmp_path / "run" / name).stat().st_mode) for name in ("", "exchange.sock")]
    assert modes == [0o700, 0o600]


def test_connections_have_a_limit(hub: Hub, tmp_path: Path) -> None:
    ends = [said(tmp_path, DOOR) for _ in range(hub.limits.connections)]
    assert closed(address.connected(tmp_path))
    hub.put_input(ONE, b"x")
    for end in ends:
        end.close()


def test_who_stops_in_the_middle_of_a_frame_is_disconnected_and_holds_nobody_up(hub: Hub, tmp_path: Path) -> None:
    """It has announced a body that takes all the room there is for what arrives."""
    end = said(tmp_path, DOOR)
    header = b'{"op":"put_input","id":"%s"}' % (b"00" * 16)
    end.sendall(_frame(header, (1 << 20).to_bytes(8, "big")) + b"x")
    with DoorClient(tmp_path) as client:
        assert client.wait_connected(PATIENCE)
        client.put_input(ONE, bytes(1 << 20))
    assert closed(end)
    assert hub.input(ONE) == bytes(1 << 20)


def test_who_does_not_read_what_it_listens_to_holds_up_neither_trainer_nor_others(hub: Hub, tmp_path: Path) -> None:
    deaf = said(tmp_path, DOOR)
    send(deaf, {"op": "listen", "id": ONE.hex(), "reader": 0})
    with DoorClient(tmp_path) as client:
        assert client.wait_connected(PATIENCE)
        trainer, frames = TrainerClient(tmp_path, "worker"), []
        with client.stream_reader(ONE) as reader:
            for number in range(64):
                trainer.stream(ONE, bytes([number]) * 200_000)
                while number not in (frame[0] for frame in frames):
                    frames += reader.read(PATIENCE) or []
        trainer.close()
    assert [frame[0] for frame in frames] == list(range(64))
    deaf.close()


def test_who_does_not_read_for_long_is_disconnected_and_nothing_is_kept_for_it(tmp_path: Path) -> None:
    hub = Hub(ExchangeLimits(deaf_seconds=0.1))
    with listening(hub, tmp_path):
        deaf = said(tmp_path, DOOR)
        send(deaf, {"op": "listen", "id": ONE.hex(), "reader": 0})
        trainer = TrainerClient(tmp_path, "worker")
        with hub.stream_reader(ONE) as reader:
            stream = reader.stream
            while len(stream.readers) < 2:
                trainer.ready()
            while len(stream.readers) > 1:
                trainer.stream(ONE, bytes(500_000))
                trainer.ready()
        trainer.close()
        assert closed(deaf)


def test_a_door_may_not_listen_to_everything(hub: Hub, tmp_path: Path) -> None:
    with DoorClient(tmp_path) as client:
        assert client.wait_connected(PATIENCE)
        readers = [client.stream_reader(ONE) for _ in range(hub.limits.listening)]
        with pytest.raises(ExchangeFullError):
            client.stream_reader(ONE)
        readers[0].close()
        client.stream_reader(ONE).close()
    assert hub.figures().ready == ()


class Heard:
    """A roster that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.changed = threading.Condition()

    def _tell(self, *told: str) -> None:
        with self.changed:
            self.told.append(told)
            self.changed.notify_all()

    def trainer_ready(self, worker: str) -> None:
        self._tell("ready", worker)

    def trainer_gone(self, worker: str) -> None:
        self._tell("gone", worker)

    def announced(self, worker: str, standing: bytes) -> None:
        self._tell("announced", worker, standing.decode())

    def left(self, worker: str) -> None:
        self._tell("left", worker)


def test_a_roster_hears_of_trainers_by_their_names(hub: Hub, tmp_path: Path) -> None:
    roster = hub.roster = Heard()
    client = TrainerClient(tmp_path, "worker")
    client.announce(b"standing")
    client.ready()
    assert hub.is_ready("worker")
    client.leave()
    assert not hub.is_ready("worker")
    client.close()
    with roster.changed:
        assert roster.changed.wait_for(lambda: len(roster.told) == 4, PATIENCE)
    announced = ("announced", "worker", "standing")
    assert roster.told == [announced, ("ready", "worker"), ("left", "worker"), ("gone", "worker")]


def test_a_trainer_that_another_connection_has_the_name_of_is_not_gone(hub: Hub, tmp_path: Path) -> None:
    roster = hub.roster = Heard()
    first, second = TrainerClient(tmp_path, "worker"), TrainerClient(tmp_path, "worker")
    first.ready()
    second.ready()
    first.close()
    second.close()
    assert hub.wait_gone("worker", PATIENCE)
    with roster.changed:
        assert roster.changed.wait_for(lambda: ("gone", "worker") in roster.told, PATIENCE)
    assert roster.told.count(("gone", "worker")) == 1


def test_who_lost_a_run_and_has_not_noticed_spoils_no_stream(hub: Hub, tmp_path: Path) -> None:
    former, present = TrainerClient(tmp_path, "former"), TrainerClient(tmp_path, "present")
    former.stream(ONE, b"a")
    former.ready()  # answered after what was sent before it
    first = hub.stream_reader(ONE)
    present.stream(ONE, b"A")
    present.ready()
    former.stream(ONE, b"b")
    former.end_stream(ONE)
    former.close()
    assert hub.wait_gone("former", PATIENCE)
    second = hub.stream_reader(ONE)
    present.stream(ONE, b"B")
    present.end_stream(ONE)
    assert (first.read(PATIENCE), first.read(PATIENCE), first.lost) == ([b"a"], None, True)
    present.close()
    assert hub.wait_gone("present", PATIENCE)
    assert (second.read(), second.read(), second.lost) == ([b"A", b"B"], None, False)


def test_what_a_hub_says_that_no_hub_would_say_ends_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        connection = Connection(ours)
        stack.callback(theirs.close)
        assert receive(theirs, 0) == (DOOR, b"")
        theirs.sendall(_frame(b'{"op":"frames"}'))
        connection.serve()
        connection.close()
        with pytest.raises(ExchangeAwayError):
            connection.ask({"op": "figures"})
