"""Starting again: after a kill, a full disk, a damaged snapshot, a changed ledger, a wrong clock."""

from __future__ import annotations

import sqlite3
import threading
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from producers.clock import DAY, SECOND, system_clock
from producers.engines.errors import StorageFullError, UnreachableError
from producers.engines.port import ACCEPTED
from producers.errors import ClockError, LedgerCorruptError
from producers.sequencer import Limits, Sequencer
from producers.sequencer.recover import recover
from producers.sequencer.snapshot import restore, take
from producers.sequencer.timekeeper import MAX_IDLE, MAX_JUMP, Timekeeper
from tests.support.ledgers import Ledger, limit_storage, python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.engines.port import LogEngine, Snapshot
    from producers.sequencer.fold import ChainFold

SERVE_AND_TELL = """
import sys, threading
from pathlib import Path
from producers.sequencer import SequencerLock
from producers import logs
from tests.support.ledgers import Ledger
logs.configure()
ledger = Ledger(Path(sys.argv[1]))
lock = SequencerLock(ledger.folder)
lock.acquire()
threading.Thread(target=ledger.sequencer().run, args=(threading.Event(),), daemon=True).start()

def ask():
    while True:
        envelope = ledger.issue()
        reply = ledger.submitter.submit_and_wait(ledger.authority, envelope)
        sys.stdout.write(f"{reply.command_id.hex()} {reply.outcome} {reply.first_seq}\\n")
        sys.stdout.flush()

for _ in range(4):
    threading.Thread(target=ask, daemon=True).start()
threading.Event().wait()
"""


class Unkept:
    """The real engine, away whenever a snapshot is to be kept."""

    def __init__(self, engine: LogEngine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def save_snapshot(self, _: Snapshot) -> None:
        raise UnreachableError("It cannot be reached.")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.close()


def test_a_kill_loses_no_answered_command_and_doubles_none(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    Ledger(folder).close()
    for answers in (5, 40):
        process = python(SERVE_AND_TELL, folder)
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(answers)]
        process.kill()
        told += process.stdout.read().splitlines(keepends=True)
        process.wait(10)
        ledger = Ledger(folder)
        for line in (line for line in told if line.endswith("\n")):  # The kill may have cut the last one.
            command_id, outcome, seq = line.split()
            reply = ledger.engine.reply(bytes.fromhex(command_id))
            assert reply is not None
            assert (reply.outcome, reply.first_seq) == (outcome, int(seq))
            assert ledger.events("acme")[int(seq)].meta.cause == bytes.fromhex(command_id)
        causes = [recorded.meta.cause for recorded in ledger.events("acme") if recorded.meta.cause]
        assert len(causes) == len(set(causes))
        ledger.sequencer().step()  # What was taken in, and not decided, is decided now.
        assert list(ledger.engine.intake(0, 10)) == []
        ledger.verify()
        ledger.close()


def test_a_full_disk_keeps_the_entries_and_the_ledger_sound(ledger: Ledger) -> None:
    sequencer = ledger.sequencer()
    sequencer.open()
    asked = [ledger.issue() for _ in range(200)]
    ledger.submit(*asked)
    limit_storage(ledger.engine, pages=2)
    before = ledger.engine.size("acme")
    for _ in range(2):
        with pytest.raises(StorageFullError):
            sequencer.step()
    assert ledger.engine.size("acme") == before
    assert len(ledger.engine.intake(0, 1000)) == len(asked)
    limit_storage(ledger.engine, pages=None)
    assert sequencer.step() == len(asked)
    replies = [ledger.engine.reply(envelope.command_id) for envelope in asked]
    assert {reply.outcome for reply in replies if reply} == {ACCEPTED}
    ledger.verify()


def test_a_running_writer_goes_on_by_itself_once_there_is_space(ledger: Ledger) -> None:
    stop = threading.Event()
    sequencer = ledger.sequencer(Limits(full_seconds=0.05))
    sequencer.open()
    asked = [ledger.issue() for _ in range(200)]
    ledger.submit(*asked)
    limit_storage(ledger.engine, pages=2)
    thread = threading.Thread(target=sequencer.run, args=(stop,))
    thread.start()
    with pytest.raises(StorageFullError):
        ledger.engine.wait_reply(asked[-1].command_id, 20)
    limit_storage(ledger.engine, pages=None)
    while ledger.engine.intake_position() == 0 or ledger.engine.reply(asked[-1].command_id) is None:
        ledger.engine.wait({"acme": ledger.engine.size("acme")}, 0.1)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    ledger.verify()


def test_a_clean_stop_leaves_snapshots_that_are_the_fold(ledger: Ledger) -> None:
    sequencer = ledger.sequencer()
    ledger.submit(ledger.issue("k1"))
    sequencer.step()
    sequencer.close()
    for chain in ledger.engine.chains():
        stored = ledger.engine.load_snapshot(chain)
        assert stored is not None
        assert stored.size == ledger.engine.size(chain)
        restored, folded = restore(stored), _folded_without_snapshot(ledger, chain)
        assert (restored.head, restored.streams) == (folded.head, folded.streams)


def _folded_without_snapshot(ledger: Ledger, chain: str) -> ChainFold:
    _sql(ledger, "DELETE FROM snapshots WHERE chain = ?", chain)
    return recover(ledger.engine, chain)[0]


def test_snapshots_are_taken_every_so_many_records(ledger: Ledger) -> None:
    sequencer = ledger.sequencer(Limits(snapshot_every=50))
    sequencer.open()
    ledger.submit(ledger.issue())
    sequencer.step()
    assert ledger.engine.load_snapshot("acme") is None
    ledger.submit(*[ledger.issue() for _ in range(50)])
    sequencer.step()
    stored = ledger.engine.load_snapshot("acme")
    assert stored is not None
    assert stored.size == ledger.engine.size("acme")


def test_a_chain_of_many_streams_is_snapshot_as_seldom_as_it_has_streams(ledger: Ledger) -> None:
    sequencer = ledger.sequencer(Limits(snapshot_every=50))
    sizes = []
    for _ in range(10):
        ledger.submit(*[ledger.issue() for _ in range(50)])
        sequencer.step()
        stored = ledger.engine.load_snapshot("acme")
        sizes.append(stored.size if stored else 0)
    assert len(set(sizes)) <= 5, sizes
    ledger.verify()


SNAPSHOT_DAMAGE = {
    "flipped": "UPDATE snapshots SET data = CAST(replace(data, 'head', 'haed') AS BLOB)",
    "emptied": "UPDATE snapshots SET data = x''",
    "other digest": "UPDATE snapshots SET digest = zeroblob(32)",
}


@pytest.mark.parametrize("damage", SNAPSHOT_DAMAGE)
def test_a_damaged_snapshot_is_dropped_and_all_is_folded_anew(ledger: Ledger, damage: str) -> None:
    ledger.submit(ledger.issue("k1"))
    sequencer = ledger.sequencer()
    sequencer.step()
    sequencer.close()
    _sql(ledger, SNAPSHOT_DAMAGE[damage])
    with capture_logs() as logs:
        again = ledger.sequencer()
        again.open()
    assert {entry["chain"] for entry in logs if entry["event"] == "snapshot_dropped"} == {"acme", "platform"}
    repeated = ledger.issue("k1")
    ledger.submit(repeated)
    again.step()
    reply = ledger.engine.reply(repeated.command_id)
    assert reply is not None
    assert reply.code == "already_exists"
    ledger.verify()


CORRUPTIONS = {
    "a flipped bit in an early record": "UPDATE records SET data = {flipped} WHERE seq = 4",
    "a flipped bit in the last record": "UPDATE records SET data = {flipped} "
    "WHERE seq = (SELECT max(seq) FROM records)",
    "another name in a record that still decodes": "UPDATE records SET data = {renamed} WHERE seq = 1",
    "two records exchanged": "UPDATE records SET seq = -5 WHERE seq = 5; UPDATE records SET seq = 5 WHERE seq = 6;"
    "UPDATE records SET seq = 6 WHERE seq = -5",
    "a record in the middle missing": "DELETE FROM records WHERE seq = 5",
    "the last record missing": "DELETE FROM records WHERE seq = (SELECT max(seq) FROM records)",
    "the last record and the size rolled back": "DELETE FROM records WHERE seq = (SELECT max(seq) FROM records);"
    "UPDATE chains SET size = size - 1",
}
FLIPPED = "CAST(substr(data, 1, 40) || x'ff' || substr(data, 42) AS BLOB)"
RENAMED = "CAST(substr(data, 1, length(data) - 1) || x'21' AS BLOB)"


# Without a snapshot nothing here remembers the end of a chain: only the signer does.
ROLL_BACK = "the last record and the size rolled back"


@pytest.mark.parametrize(
    ("corruption", "snapshots"),
    [(name, True) for name in CORRUPTIONS] + [(name, False) for name in CORRUPTIONS if name != ROLL_BACK],
)
def test_a_corrupted_ledger_is_refused_with_the_next_step(ledger: Ledger, corruption: str, *, snapshots: bool) -> None:
    sequencer = ledger.sequencer()
    ledger.submit(ledger.issue(), ledger.issue())
    sequencer.step()
    if snapshots:
        sequencer.close()
    for statement in CORRUPTIONS[corruption].format(flipped=FLIPPED, renamed=RENAMED).split(";"):
        _sql(ledger, f"{statement} {'AND' if 'WHERE' in statement else 'WHERE'} {_of_acme(statement)}")
    with pytest.raises(LedgerCorruptError, match="backup"):
        ledger.sequencer().open()


def _of_acme(statement: str) -> str:
    return "name = 'acme'" if "UPDATE chains" in statement else "chain = (SELECT id FROM chains WHERE name = 'acme')"


def _sql(ledger: Ledger, statement: str, *values: object) -> None:
    statement = statement.replace("(SELECT max(seq) FROM records)", "(SELECT size - 1 FROM chains WHERE name = 'acme')")
    with sqlite3.connect(ledger.folder / "ledger.db") as db:
        db.execute(statement, values)
    db.close()


def test_a_snapshot_of_another_build_is_not_used(ledger: Ledger) -> None:
    fold, _ = recover(ledger.engine, "acme")
    stored = take(fold)
    other = stored.data.replace(b'"build":"', b'"build":"0')
    ledger.engine.save_snapshot(type(stored)(stored.chain, stored.size, sha256(other).digest(), other))
    with capture_logs() as logs:
        again, covered = recover(ledger.engine, "acme")
    assert [entry["event"] for entry in logs] == ["snapshot_dropped"]
    assert covered == 0
    assert (again.head, again.streams) == (fold.head, fold.streams)


class Watch:
    """A wall clock that a test sets, and the time that really passes beside it; microseconds."""

    def __init__(self) -> None:
        self.wall = system_clock()
        self.passed = 0

    def __call__(self) -> int:
        return self.wall

    def elapsed(self) -> int:
        return self.passed

    def advance(self, by: int) -> None:
        self.wall += by
        self.passed += by


def started(watch: Watch, newest: int = 0) -> Timekeeper:
    keeper = Timekeeper(watch, watch.elapsed)
    keeper.start(newest)
    return keeper


def test_time_never_goes_backwards_in_a_chain() -> None:
    watch = Watch()
    keeper = started(watch)
    last = watch.wall
    watch.wall -= 5 * SECOND
    assert keeper.now(last) == last


def test_a_clock_that_leaps_ahead_is_not_believed() -> None:
    watch = Watch()
    keeper = started(watch)
    watch.wall += MAX_JUMP + SECOND
    with pytest.raises(ClockError):
        keeper.now(0)


def test_a_long_quiet_time_is_no_leap() -> None:
    watch = Watch()
    keeper = started(watch)
    last = watch.wall
    watch.advance(30 * DAY)
    assert keeper.now(last) == watch.wall


def test_a_start_after_weeks_is_fine_and_one_after_years_needs_a_word() -> None:
    watch = Watch()
    started(watch, watch.wall - 60 * DAY)
    with pytest.raises(ClockError, match="TG_ACCEPT_CLOCK"):
        started(watch, watch.wall - MAX_IDLE - SECOND)
    Timekeeper(watch, watch.elapsed).start(watch.wall - MAX_IDLE - SECOND, accept=True)


def test_a_leap_of_the_clock_seals_nothing_and_keeps_the_entries(tmp_path: Path) -> None:
    watch = Watch()
    ledger = Ledger(tmp_path / "data", watch)
    sequencer = ledger.sequencer()
    sequencer.open()
    ledger.submit(ledger.issue())
    watch.wall += 2 * DAY
    with pytest.raises(ClockError):
        sequencer.step()
    assert len(ledger.engine.intake(0, 10)) == 1
    watch.wall -= 2 * DAY
    assert sequencer.step() == 1
    ledger.verify()
    ledger.close()


@pytest.mark.parametrize("backwards", [1, 3600 * SECOND])
def test_records_keep_their_order_in_time_when_the_clock_is_set_back(tmp_path: Path, backwards: int) -> None:
    watch = Watch()
    ledger = Ledger(tmp_path / "data", watch)
    sequencer: Sequencer = ledger.sequencer()
    ledger.submit(ledger.issue(now=watch.wall - 2 * backwards, ttl=DAY))
    sequencer.step()
    watch.wall -= backwards
    ledger.submit(ledger.issue(ttl=DAY))
    sequencer.step()
    times = [recorded.meta.recorded_at for recorded in ledger.events("acme")]
    assert times == sorted(times)
    ledger.verify()
    ledger.close()


def test_a_full_disk_at_the_stop_only_costs_the_snapshot(ledger: Ledger) -> None:
    sequencer = ledger.sequencer()
    ledger.submit(ledger.issue())
    sequencer.step()
    limit_storage(ledger.engine, pages=0)
    with capture_logs() as logs:
        sequencer.close()
    assert "snapshot_skipped" in [entry["event"] for entry in logs]
    limit_storage(ledger.engine, pages=None)
    ledger.verify()


def test_a_log_that_goes_away_behind_a_commit_only_costs_the_snapshot(ledger: Ledger) -> None:
    sequencer = Sequencer.of(ledger.installation, Unkept(ledger.engine), Limits(snapshot_every=1))
    for _ in range(2):
        ledger.submit(ledger.issue())
        assert sequencer.step() == 1
    sequencer.close()
    assert ledger.engine.waiting() == 0
    assert ledger.engine.load_snapshot("acme") is None
    ledger.verify()
