"""What only the embedded engine has: a file that can be full, damaged, of another version, or left by the killed."""

from __future__ import annotations

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from producers.engines.errors import LedgerDamagedError, StorageFullError, UnknownFormatError
from producers.engines.group import GroupCommit
from producers.engines.port import ACCEPTED, Append, Commit, Quarantined, Reply
from producers.engines.sqlite import SqliteEngine
from tests.support.ledgers import limit_storage, python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECORD = b"r" * 1000
REPLY = Reply(b"c" * 16, ACCEPTED, "acme", 0, 0, "", "", b"d" * 32)

COMMIT_FOREVER = """
import sys
from pathlib import Path
from producers.engines.port import ACCEPTED, Append, Commit, Reply
from producers.engines.sqlite import SqliteEngine
engine = SqliteEngine(Path(sys.argv[1]))
epoch, size = engine.open_epoch(), engine.size("acme")
while True:
    reply = Reply(size.to_bytes(16, "big"), ACCEPTED, "acme", size, size, "", "", bytes(32))
    engine.commit(Commit(epoch, [Append("acme", size, [size.to_bytes(4, "big")])], [reply]))
    size += 1
    print(size, flush=True)
"""
FILL_A_SMALL_DISK = """
import resource, sys
from pathlib import Path
from producers.engines.errors import StorageFullError
from producers.engines.port import Append, Commit
from producers.engines.sqlite import SqliteEngine
engine = SqliteEngine(Path(sys.argv[1]))
epoch = engine.open_epoch()
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
size = 0
try:
    while size < 10_000:
        engine.commit(Commit(epoch, [Append("acme", size, [b"r" * 1000])]))
        size += 1
except StorageFullError as error:
    print(error.code, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert engine.size("acme") == size
engine.commit(Commit(epoch, [Append("acme", size, [b"r"])]))
print(engine.size("acme") - size, flush=True)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(tmp_path / "ledger.db")
    yield engine
    engine.close()


def test_a_full_disk_takes_nothing_into_the_intake(engine: SqliteEngine) -> None:
    engine.submit([b"before"])
    limit_storage(engine, pages=0)
    with pytest.raises(StorageFullError):
        engine.submit([RECORD * 10])
    limit_storage(engine, pages=None)
    assert [entry.data for entry in engine.intake(0, 10)] == [b"before"]
    engine.submit([b"after"])
    assert [entry.data for entry in engine.intake(0, 10)] == [b"before", b"after"]


def test_a_full_disk_commits_nothing_and_the_same_commit_passes_later(engine: SqliteEngine) -> None:
    position = engine.submit([b"entry"])[0]
    commit = Commit(engine.open_epoch(), [Append("acme", 0, [RECORD] * 100)], [REPLY], position)
    limit_storage(engine, pages=3)
    with pytest.raises(StorageFullError):
        engine.commit(commit)
    assert engine.size("acme") == 0
    assert engine.intake_position() == 0
    limit_storage(engine, pages=None)
    engine.commit(commit)
    assert engine.size("acme") == 100
    assert engine.reply(REPLY.command_id) == REPLY


def test_who_waits_for_a_decision_learns_that_the_disk_is_full(engine: SqliteEngine) -> None:
    epoch = engine.open_epoch()
    limit_storage(engine, pages=3)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.wait_reply, REPLY.command_id, 20.0)
        with pytest.raises(StorageFullError):
            engine.commit(Commit(epoch, [Append("acme", 0, [RECORD] * 100)], [REPLY]))
        with pytest.raises(StorageFullError):
            waiting.result()
    limit_storage(engine, pages=None)
    engine.commit(Commit(epoch, [Append("acme", 0, [RECORD])], [REPLY]))
    assert engine.wait_reply(REPLY.command_id, 20.0) == REPLY


def test_a_file_that_may_not_grow_is_a_full_disk_too(tmp_path: Path) -> None:
    process = python(FILL_A_SMALL_DISK, tmp_path / "ledger.db")
    assert process.communicate(timeout=60)[0].split() == ["storage_full", "1"]
    assert process.returncode == 0


def test_a_killed_writer_loses_nothing_that_it_was_told_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for _ in range(3):
        process = python(COMMIT_FOREVER, path)
        assert process.stdout is not None
        for _ in range(20):
            line = process.stdout.readline()
        process.kill()
        acknowledged = int((line + process.stdout.read()).split()[-1])
        process.wait(10)
        engine = SqliteEngine(path)
        size = engine.size("acme")
        assert size >= acknowledged
        assert list(engine.read("acme", 0, size + 1)) == [seq.to_bytes(4, "big") for seq in range(size)]
        assert engine.reply((size - 1).to_bytes(16, "big")) is not None
        engine.close()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: b"no database at all" + data[18:], id="header overwritten"),
        pytest.param(lambda data: data[:4096] + b"\xff" * (len(data) - 4096), id="pages overwritten"),
        pytest.param(lambda data: data[: len(data) // 2], id="cut in half"),
    ],
)
def test_a_damaged_file_is_refused_with_the_next_step(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "ledger.db"
    engine = SqliteEngine(path)
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [RECORD] * 200)], [REPLY]))
    engine.close()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(LedgerDamagedError, match="backup"):
        _use(path)


def _use(path: Path) -> None:
    engine = SqliteEngine(path)
    try:
        engine.read("acme", 0, 1000)
        engine.reply(REPLY.command_id)
    finally:
        engine.close()


def test_a_file_of_another_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    before = path.read_bytes()
    with pytest.raises(UnknownFormatError):
        SqliteEngine(path)
    assert path.read_bytes() == before


def test_dead_letters_of_the_format_before_are_taken_over_with_an_unknown_time(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteEngine(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE quarantine DROP COLUMN at")
        db.execute("INSERT INTO quarantine VALUES (3, 'undecidable', x'00ff')")
        db.execute("PRAGMA user_version=1")
    for _ in range(2):
        with contextlib.closing(SqliteEngine(path)) as engine:
            assert list(engine.quarantined()) == [Quarantined(3, "undecidable", 0)]
            assert engine.dead_letter(3) == b"\x00\xff"


def test_the_sizes_are_asked_of_the_file_once_after_each_commit_of_whatever_process(tmp_path: Path) -> None:
    path, asked = tmp_path / "ledger.db", []
    with contextlib.closing(SqliteEngine(path)) as here, contextlib.closing(SqliteEngine(path)) as there:
        epoch = there.open_epoch()
        assert here.sizes() == {}
        connection = here._store._sizes._connection
        assert connection is not None
        connection.set_trace_callback(lambda statement: asked.append(statement.startswith("SELECT")))
        for size, writer in enumerate((there, here, there, here)):
            writer.commit(Commit(epoch, [Append("acme", size, [RECORD])]))
            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(lambda _: here.sizes(), range(8))) == [{"acme": size + 1}] * 8
        assert sum(asked) == 4


def test_whoever_has_the_sizes_may_change_them(engine: SqliteEngine) -> None:
    engine.commit(Commit(engine.open_epoch(), [Append("acme", 0, [RECORD])]))
    engine.sizes()["acme"] = 7
    assert engine.sizes() == {"acme": 1}


def test_who_waits_while_the_engine_is_closed_learns_that_nothing_came(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "ledger.db")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.wait, {}, 20.0)
        engine.close()
        assert not waiting.result()
    assert engine.sizes() == {}


def test_a_full_disk_neither_loses_nor_doubles_what_is_retried(engine: SqliteEngine) -> None:
    position = engine.submit([RECORD * 10])[0]
    poisoned = Quarantined(position, "undecidable", 1)
    engine.commit(Commit(engine.open_epoch(), intake_position=position, quarantined=[poisoned]))
    limit_storage(engine, pages=0)
    with contextlib.suppress(StorageFullError):
        engine.retry(position)
    limit_storage(engine, pages=None)
    kept = [engine.dead_letter(letter.position) for letter in engine.quarantined()]
    assert kept + [entry.data for entry in engine.intake(position, 10)] == [RECORD * 10]


def test_commits_are_synced_to_the_disk_and_the_intake_rides_along(engine: SqliteEngine) -> None:
    settings = [
        connection.execute("PRAGMA synchronous").fetchone()[0]
        for connection in (engine._store._durable, engine._store._relaxed)
    ]
    assert settings == [2, 1]  # FULL, NORMAL
    assert engine._store._durable.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_work_handed_in_together_is_done_in_one_go() -> None:
    applied: list[int] = []

    def apply(items: object) -> list[int]:
        numbers = list(items)  # type: ignore[call-overload]
        applied.append(len(numbers))
        return [number * 2 for number in numbers]

    group: GroupCommit[int, int] = GroupCommit(apply)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: list(group.submit([n, n + 1])), range(50))) == [
            [2 * n, 2 * n + 2] for n in range(50)
        ]
    assert sum(applied) == 100


def test_an_error_reaches_everyone_whose_work_was_in_the_group() -> None:
    def apply(_: object) -> list[int]:
        raise StorageFullError("There is no space left.")

    group: GroupCommit[int, int] = GroupCommit(apply)
    with pytest.raises(StorageFullError):
        group.submit([1])
