"""Readers say where they stand, and those that are gone say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from producers.positions import PositionFile, Reader, readers
from tests.support.ledgers import python

if TYPE_CHECKING:
    from pathlib import Path

NOTE_AND_WAIT = """
import sys, threading
from pathlib import Path
from producers.positions import PositionFile
file = PositionFile(Path(sys.argv[1]), ["packager"], lambda: 1)
file.note({"acme": 1})
print("noted", flush=True)
threading.Event().wait()
"""


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def position_file(data_dir: Path, *processors: str, seconds: Time | None = None) -> PositionFile:
    return PositionFile(data_dir, processors, lambda: 7, seconds or Time())


def positions(data_dir: Path) -> list[tuple[tuple[str, ...], dict[str, int]]]:
    return [(reader.processors, dict(reader.positions)) for reader in readers(data_dir)]


def test_a_reader_says_where_it_stands(tmp_path: Path) -> None:
    file = position_file(tmp_path, "packager", "exporter")
    assert readers(tmp_path) == []
    file.note({"acme": 3, "platform": 9})
    found = readers(tmp_path)
    assert found == [Reader(("packager", "exporter"), found[0].process, {"acme": 3, "platform": 9}, 7)]
    assert found[0].process.rpartition("/")[2].isdecimal()


def test_a_reader_without_a_chain_is_one_that_runs(tmp_path: Path) -> None:
    file = position_file(tmp_path, "packager")
    file.note({})
    assert positions(tmp_path) == [(("packager",), {})]


def test_only_what_is_new_is_noted_and_at_most_once_a_second(tmp_path: Path) -> None:
    time = Time()
    file = position_file(tmp_path, "trainer", seconds=time)
    noted = []
    for now, position in ((0.0, 1), (0.5, 2), (0.9, 3), (1.0, 4), (1.1, 5), (2.0, 5), (3.0, 5)):
        time.now = now
        file.note({"acme": position})
        noted.append(positions(tmp_path)[0][1]["acme"])
    assert noted == [1, 1, 1, 4, 4, 5, 5]


def test_a_reader_that_has_ended_leaves_nothing(tmp_path: Path) -> None:
    file, other = position_file(tmp_path, "packager"), position_file(tmp_path, "trainer")
    file.note({"acme": 1})
    other.note({"acme": 2})
    file.close()
    assert positions(tmp_path) == [(("trainer",), {"acme": 2})]
    other.close()
    assert list((tmp_path / "run" / "readers").iterdir()) == []


def test_several_processes_of_one_processor_stand_beside_each_other(tmp_path: Path) -> None:
    files = [position_file(tmp_path, "trainer") for _ in range(3)]
    for number, file in enumerate(files):
        file.note({"acme": number})
    assert sorted(at["acme"] for _, at in positions(tmp_path)) == [0, 1, 2]


def test_a_killed_reader_is_not_taken_for_one_that_runs_and_the_next_one_sweeps(tmp_path: Path) -> None:
    process = python(NOTE_AND_WAIT, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "noted\n"
    assert positions(tmp_path) == [(("packager",), {"acme": 1})]
    process.kill()
    process.communicate(timeout=20)
    assert positions(tmp_path) == []
    assert len(list((tmp_path / "run" / "readers").iterdir())) == 2
    position_file(tmp_path, "dispatcher").note({"acme": 2})
    assert not list((tmp_path / "run" / "readers").glob("packager-*"))


def test_no_reader_stops_for_a_note_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder belongs")
    file = position_file(tmp_path, "packager")
    file.note({"acme": 1})
    file.close()
    assert (tmp_path / "run").read_text() == "a file where the folder belongs"


DAMAGED = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "no positions": b'{"processors": ["x"], "process": "h/1", "noted_at": 1}',
    "positions that are none": b'{"processors": ["x"], "process": "h/1", "noted_at": 1, "positions": {"a": "b"}}',
    "positions in a list": b'{"processors": ["x"], "process": "h/1", "noted_at": 1, "positions": [1]}',
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_file_that_is_no_note_is_passed_over(tmp_path: Path, data: bytes) -> None:
    file = position_file(tmp_path, "packager")
    file.note({"acme": 1})
    next((tmp_path / "run" / "readers").glob("*.json")).write_bytes(data)
    assert readers(tmp_path) == []
