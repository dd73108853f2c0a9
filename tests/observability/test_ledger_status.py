"""Where the ledger stands, said of a data directory without a server and of one with processors that run."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.cli.main import run

from api.observability.ledger import PROCESSORS, Epoch, look
from processors.placement.dispatcher import Dispatcher
from processors.placement.roster import LocalRoster
from processors.runners.embedded import EmbeddedRunner
from producers.engines.port import Append, Commit, Quarantined
from producers.positions import PositionFile
from producers.sequencer import SequencerLock
from projections.database import open_database, sqlite_url
from projections.projector import Projector
from tests.moving.desk import NAME, Desk
from tests.support.ledgers import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.close()


def issue(ledger: Ledger, count: int = 1) -> None:
    for _ in range(count):
        ledger.submitter.submit_and_wait(ledger.authority, ledger.issue())


def lags(ledger: Ledger) -> dict[str, int | None]:
    return {position.reader: position.total for position in look(ledger.installation, ledger.engine).positions}


def fold(ledger: Ledger) -> None:
    database = open_database(sqlite_url(ledger.installation.views_path))
    Projector(ledger.engine, database).catch_up()
    database.dispose()


def test_what_does_not_run_has_no_lag_and_no_zero(ledger: Ledger) -> None:
    standing = look(ledger.installation, ledger.engine)
    assert all(position.process is None for position in standing.positions)
    assert lags(ledger) == {"signer": sum(ledger.engine.sizes().values()), **dict.fromkeys(("views", *PROCESSORS))}
    assert not standing.sequencer_runs
    assert not ledger.installation.views_path.exists()  # looking has made nothing


def test_the_signer_and_the_views_are_behind_by_what_came_after_them(ledger: Ledger) -> None:
    ledger.sign()
    fold(ledger)
    assert (lags(ledger)["signer"], lags(ledger)["views"]) == (0, 0)
    signed = ledger.engine.size("acme")
    issue(ledger, 2)
    new = ledger.engine.size("acme") - signed
    assert (lags(ledger)["signer"], lags(ledger)["views"]) == (new, new)
    chains = {each.chain: each for each in look(ledger.installation, ledger.engine).chains}
    assert (chains["acme"].size, chains["acme"].signed_size) == (signed + new, signed)


def test_views_that_cannot_be_read_are_behind_by_nobody_knows_what(ledger: Ledger) -> None:
    ledger.installation.views_path.write_bytes(b"no database" * 1000)
    assert lags(ledger)["views"] is None


def test_views_of_another_version_are_no_views(ledger: Ledger) -> None:
    fold(ledger)
    database = open_database(sqlite_url(ledger.installation.views_path))
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE about SET version = version + 1")
    database.dispose()
    assert lags(ledger)["views"] is None


def test_a_processor_that_runs_says_how_far_it_has_read(ledger: Ledger) -> None:
    stop = threading.Event()
    runner = EmbeddedRunner(ledger.installation, ledger.engine, [Dispatcher(LocalRoster())])
    noted, note = threading.Event(), runner._position.note

    def telling(positions: dict[str, int]) -> None:
        note(positions)
        noted.set()

    runner._position.note = telling  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    try:
        assert noted.wait(20)
        position = next(at for at in look(ledger.installation, ledger.engine).positions if at.reader == "dispatcher")
        assert (position.total, position.process is not None) == (0, True)
    finally:
        stop.set()
        thread.join(20)
    assert lags(ledger)["dispatcher"] is None


def test_of_several_processes_the_last_one_counts_in_a_chain(ledger: Ledger) -> None:
    size = ledger.engine.size("acme")
    files = [PositionFile(ledger.folder, ["trainer"], ledger.clock) for _ in range(2)]
    for file, position in zip(files, (size, size - 3), strict=True):
        file.note({**ledger.engine.sizes(), "acme": position})
    standing = look(ledger.installation, ledger.engine)
    assert sorted(at.total or 0 for at in standing.positions if at.reader == "trainer") == [0, 3]
    assert (standing.lag_of("acme")["trainer"], standing.lag_of("platform")["trainer"]) == (3, 0)
    for file in files:
        file.close()


def test_workers_that_share_chains_answer_for_their_own_and_nobody_for_the_rest(ledger: Ledger) -> None:
    sizes = ledger.engine.sizes()
    files = [PositionFile(ledger.folder, ["retention"], ledger.clock) for _ in range(2)]
    files[0].note({"acme": sizes["acme"] - 2}, partial=True)
    files[1].note({}, partial=True)
    standing = look(ledger.installation, ledger.engine)
    found = [(each.lag, each.process is None) for each in standing.positions if each.reader == "retention"]
    assert sorted(found, key=str) == [({"acme": 2}, False), ({"platform": sizes["platform"]}, True), ({}, False)]
    assert [standing.lag_of(chain)["retention"] for chain in ("acme", "platform")] == [2, sizes["platform"]]
    files[1].close()
    files[0].note(sizes, partial=True)
    for file in files:
        file.close()


def test_a_reader_ahead_of_the_heads_that_were_looked_at_is_not_behind(ledger: Ledger) -> None:
    file = PositionFile(ledger.folder, ["trainer"], ledger.clock)
    file.note(dict.fromkeys(ledger.engine.sizes(), 1_000_000))
    assert lags(ledger)["trainer"] == 0
    file.close()


def test_the_newest_writer_of_each_chain_is_named(ledger: Ledger) -> None:
    opened = {each.chain: each for each in look(ledger.installation, ledger.engine).chains}
    for _ in range(3):  # each of them writes one epoch, and acme alone
        again = ledger.sequencer()
        again.open()
        ledger.submit(ledger.issue(), ledger.issue())
        again.step()
    standing = look(ledger.installation, ledger.engine)
    chains = {each.chain: each for each in standing.chains}
    assert chains["acme"].epoch == standing.epochs[0].epoch == ledger.engine.epoch() == (opened["acme"].epoch or 0) + 3
    assert chains["acme"].written_by == standing.epochs[0].written_by == again._name
    assert chains["platform"] == opened["platform"]
    ledger.sequencer().open()
    newest = look(ledger.installation, ledger.engine).epochs
    assert newest == (Epoch(0, ledger.engine.epoch(), None),)  # a writer that has written nothing yet


def test_a_chain_that_was_moved_names_the_ledger_that_goes_on_with_it(tmp_path: Path) -> None:
    with contextlib.closing(Desk(tmp_path)) as desk:
        desk.work(desk.here)
        before = look(desk.ledger.installation, desk.here)
        desk.move()
        after = look(desk.ledger.installation, desk.here)
    assert {(each.partition, each.moved_to) for each in before.chains} == {(0, None)}
    assert {(each.partition, each.moved_to) for each in after.chains} == {(0, NAME)}


def test_a_damaged_chain_hides_nothing_of_the_others(ledger: Ledger) -> None:
    ledger.engine.commit(Commit(ledger.engine.epoch(), [Append("torn", 0, [b"no record", b"none"])]))
    chains = {each.chain: each for each in look(ledger.installation, ledger.engine).chains}
    assert (chains["torn"].size, chains["torn"].epoch, chains["torn"].written_by) == (2, None, None)
    assert chains["acme"].epoch is not None


def test_what_waits_and_what_was_set_aside_is_counted(ledger: Ledger) -> None:
    lock = SequencerLock(ledger.folder)
    assert lock.try_acquire()
    first = ledger.engine.submit([b"a", b"b", b"c"])[0]
    letters = [Quarantined(first, "undecidable", 1)]
    ledger.engine.commit(Commit(ledger.engine.epoch(), intake_position=first, quarantined=letters))
    standing = look(ledger.installation, ledger.engine)
    lock.close()
    assert (standing.waiting, standing.dead_letters, standing.sequencer_runs) == (2, 1, True)


def test_the_command_prints_the_same_for_programs_and_for_people(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger.sign()
    words = ["ledger", "status", "--data-dir", str(ledger.folder)]
    assert run([*words, "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert {chain["chain"]: chain["size"] for chain in said["chains"]} == ledger.engine.sizes()
    assert said["chains"][0]["lag"] == {"signer": 0, **dict.fromkeys(("views", *PROCESSORS))}
    assert {row["reader"]: (row["lag"], row["running"]) for row in said["readers"]} == {
        "signer": (0, None),
        "views": (None, None),
        **dict.fromkeys(PROCESSORS, (None, False)),
    }
    assert run(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("not running") == len(PROCESSORS) + 1
    assert "nothing folded" in printed


def test_a_folder_that_is_no_installation_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ledger", "status", "--data-dir", str(tmp_path / "typo"), "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["code"] == "usage"
    assert not (tmp_path / "typo").exists()
