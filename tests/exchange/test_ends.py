"""What happens when an end of the exchange is gone, stands still, comes back, or is there twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from processors.exchange import address
from processors.exchange.door import DoorClient
from processors.exchange.errors import ExchangeAwayError, ExchangeTakenError
from processors.exchange.hub import Hub
from processors.exchange.server import listening
from processors.exchange.trainer import TrainerClient

ONE = b"1" * 16
PATIENCE = 20.0


def threads_and_files() -> tuple[int, int]:
    """What of each this process has."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))


def test_a_trainer_notices_that_the_hub_is_gone(tmp_path: Path) -> None:
    gone = threading.Event()
    with listening(Hub(), tmp_path):
        client = TrainerClient(tmp_path, "worker", on_close=gone.set)
    assert gone.wait(PATIENCE)
    with pytest.raises(ExchangeAwayError):
        client.input(ONE)
    with pytest.raises(ExchangeAwayError):
        TrainerClient(tmp_path, "worker")


def test_a_door_is_connected_again_when_the_hub_comes_back(tmp_path: Path) -> None:
    told = threading.Event()
    with DoorClient(tmp_path) as client:
        with pytest.raises(ExchangeAwayError):
            client.put_input(ONE, b"x")
        with listening(Hub(), tmp_path):
            assert client.wait_connected(PATIENCE)
            reader = client.stream_reader(ONE, told.set)
            client.put_input(ONE, b"x")
        assert told.wait(PATIENCE)
        assert (reader.read(PATIENCE), reader.lost) == (None, True)
        with pytest.raises(ExchangeAwayError):
            client.stream_reader(ONE)
        reader.close()
        with listening(Hub(), tmp_path):
            assert client.wait_connected(PATIENCE)
            assert (client.has_input(ONE), client.reachable()) == (False, True)
        assert client.wait_lost(PATIENCE)
        before = threads_and_files()
        for _ in range(3):
            with listening(Hub(), tmp_path):
                assert client.wait_connected(PATIENCE)
                client.figures()
            assert client.wait_lost(PATIENCE)
        assert threads_and_files() == before


def test_a_door_whose_hub_does_not_answer_says_so_and_connects_anew(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("processors.exchange.connection.ANSWER_SECONDS", 0.5)
    stuck, go_on = threading.Event(), threading.Event()

    def figures(_: Hub) -> Any:
        stuck.set()
        go_on.wait(PATIENCE)

    with DoorClient(tmp_path) as client:
        assert client.wait_connected(PATIENCE)
        with monkeypatch.context() as patched:
            patched.setattr(Hub, "figures", figures)
            with pytest.raises(ExchangeAwayError):
                client.figures()
            assert stuck.is_set()
        go_on.set()
        assert client.wait_connected(PATIENCE)
        client.put_input(ONE, b"x")
    assert hub.has_input(ONE)


def test_a_second_hub_is_refused_while_the_first_is_there(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ExchangeTakenError), listening(Hub(), tmp_path):
        pass
    hub.put_input(ONE, b"x")
    client = TrainerClient(tmp_path, "worker")
    assert client.input(ONE) == b"x"
    client.close()


HOLD = """
import sys
from pathlib import Path
from processors.exchange.hub import Hub
from processors.exchange.server import listening
with listening(Hub(), Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_hub_left_behind_is_replaced(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "run" / "exchange.sock").is_socket()
    with pytest.raises(ExchangeAwayError):
        address.connected(tmp_path)
    with listening(Hub(), tmp_path):
        TrainerClient(tmp_path, "worker").close()
    assert not (tmp_path / "run" / "exchange.sock").exists()


def test_the_path_of_a_data_directory_may_be_longer_than_a_sockets_name(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-folder-with-a-name-of-some-length"] * 8)
    deep.mkdir(parents=True)
    hub = Hub()
    with listening(hub, deep), DoorClient(deep) as client:
        assert client.wait_connected(PATIENCE)
        client.put_input(ONE, b"x")
        assert hub.has_input(ONE)
