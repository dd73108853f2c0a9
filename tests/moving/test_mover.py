"""Copying a ledger and moving it: every hash is kept, nothing is decided twice, and what was left is left for good."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import reduce
from typing import TYPE_CHECKING, ClassVar

import pytest

from producers.deciders.registry import stream_of
from producers.engines.port import ACCEPTED, REFUSED, REJECTED, Append, Commit
from producers.engines.sqlite import SqliteEngine
from producers.errors import LedgerMovedError, RejectedError, WriterActiveError
from producers.home import read_home
from producers.identities import make_envelope
from producers.moving.errors import (
    DestinationDiffersError,
    SourceEmptyError,
    SourceUnsignedError,
    SourceUnsoundError,
)
from producers.sequencer import SequencerLock
from producers.signer.errors import SignerError
from producers.submitter import Submitter
from schemas.commands import ContinueLedger, MoveLedger
from tests.moving.desk import NAME, Crash, Desk, decided, fresh_id, is_prefix, records
from tests.support.ledgers import read_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.engines.port import LogEngine

WORDS = {
    ":acme": "chain = (SELECT id FROM chains WHERE name = 'acme')",
    ":last": "seq = (SELECT size - 1 FROM chains WHERE name = 'acme')",
    ":flipped": "CAST(substr(data, 1, 40) || x'ff' || substr(data, 42) AS BLOB)",
    ":renamed": "CAST(substr(data, 1, length(data) - 1) || x'21' AS BLOB)",
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    desk.work(desk.here)
    yield desk
    desk.close()


def sql(engine_file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(engine_file)) as db, db:
        for statement in statements:
            db.execute(reduce(lambda text, word: text.replace(*word), WORDS.items(), statement))


class TestCopying:
    def test_a_copy_keeps_every_hash_every_decision_and_the_checkpoints(self, desk: Desk) -> None:
        asked = desk.work(desk.here)
        chains = desk.copy()
        assert records(desk.there) == records(desk.here)
        assert decided(desk.there) == decided(desk.here)
        assert {("acme", envelope.command_id) for envelope in asked} <= decided(desk.here).keys()
        assert {reply.outcome for reply in decided(desk.there).values() if reply} == {ACCEPTED, REJECTED}
        assert None not in decided(desk.there).values()
        for chain in desk.here.chains():
            assert desk.there.checkpoint(chain) == desk.here.checkpoint(chain) is not None
        assert {chain.name: chain.size for chain in chains} == desk.here.sizes()
        desk.audit(desk.there, require_signed=True)

    def test_a_copy_leaves_the_source_as_it_is_and_a_later_one_goes_on(self, desk: Desk) -> None:
        desk.copy()
        before = records(desk.there)
        desk.work(desk.here)
        assert is_prefix(desk.there, desk.here)
        assert [chain.present for chain in desk.copy()] == [len(each) for _, each in sorted(before.items())]
        assert records(desk.there) == records(desk.here)
        desk.verify(desk.here)

    def test_a_copy_may_be_taken_beside_the_writer(self, desk: Desk) -> None:
        with closing(SequencerLock(desk.ledger.folder)) as lock:
            lock.acquire()
            desk.copy()
        assert records(desk.there) == records(desk.here)

    def test_a_copy_of_nothing_is_refused(self, desk: Desk, tmp_path: Path) -> None:
        with closing(SqliteEngine(tmp_path / "empty" / "ledger.db")) as empty:
            for act in (desk.mover(source=empty).copy, lambda: desk.mover(source=empty).move(NAME)):
                with pytest.raises(SourceEmptyError):
                    act()

    DIFFERENT: ClassVar[dict[str, tuple[str, ...]]] = {
        "another record at the end": ("UPDATE records SET data = x'0000' WHERE :last AND :acme",),
        "another record in the middle": ("UPDATE records SET data = x'0000' WHERE seq = 4 AND :acme",),
        "a record more": (
            "INSERT INTO records SELECT id, size, x'00' FROM chains WHERE name = 'acme'",
            "UPDATE chains SET size = size + 1 WHERE name = 'acme'",
        ),
        "a chain more": ("INSERT INTO chains (name, size) VALUES ('zeta', 1)",),
    }

    @pytest.mark.parametrize("difference", DIFFERENT.values(), ids=DIFFERENT)
    def test_a_destination_that_differs_is_refused_and_nothing_is_written(
        self, desk: Desk, difference: tuple[str, ...]
    ) -> None:
        desk.copy()
        sql(desk.folder / "there" / "ledger.db", *difference)
        before, ends = records(desk.there), desk.names(desk.here)
        for act in (desk.copy, desk.move):
            with pytest.raises(DestinationDiffersError):
                act()
        assert records(desk.there) == before
        assert desk.names(desk.here) == ends

    UNSOUND: ClassVar[dict[str, str]] = {
        "a flipped bit in an early record": "UPDATE records SET data = :flipped WHERE seq = 4 AND :acme",
        "another name in a record that decodes": "UPDATE records SET data = :renamed WHERE seq = 1 AND :acme",
        "another end of the last record": "UPDATE records SET data = :renamed WHERE :last AND :acme",
        "a record in the middle missing": "DELETE FROM records WHERE seq = 5 AND :acme",
        "the last record missing": "DELETE FROM records WHERE :last AND :acme",
        "a record fewer than were signed": "UPDATE chains SET size = size - 1 WHERE name = 'acme'",
    }

    @pytest.mark.parametrize("damage", UNSOUND.values(), ids=UNSOUND)
    def test_a_source_that_is_not_what_was_signed_is_refused_and_nothing_is_written(
        self, desk: Desk, damage: str
    ) -> None:
        desk.sign(desk.here)
        sql(desk.ledger.folder / "ledger.db", damage)
        with pytest.raises(SourceUnsoundError):
            desk.mover(signs=False).copy()
        assert records(desk.there) == {}

    def test_a_source_that_nobody_signed_is_refused(self, desk: Desk) -> None:
        desk.sign(desk.here)
        (desk.ledger.folder / "checkpoints" / "acme").unlink()
        with pytest.raises(SourceUnsignedError):
            desk.mover(signs=False).copy()
        assert records(desk.there) == {}

    def test_a_checkpoint_of_another_chain_is_refused(self, desk: Desk) -> None:
        desk.sign(desk.here)
        desk.here.publish_checkpoint("platform", desk.here.checkpoint("acme") or b"")
        with pytest.raises(SourceUnsoundError):
            desk.mover(signs=False).copy()
        assert records(desk.there) == {}


class TestMoving:
    def test_a_move_ends_every_chain_of_the_source_and_goes_on_at_the_destination(self, desk: Desk) -> None:
        moved = desk.move()
        assert (moved.ledger, moved.carried, moved.left) == (NAME, 0, 0)
        for chain in desk.here.chains():
            assert desk.names(desk.here, chain)[-1] == "LedgerMoved"
            assert desk.names(desk.there, chain)[desk.here.size(chain) :] == [
                "EpochOpened",
                "SchemaRegistered",
                "SchemaRegistered",
                "LedgerContinued",
            ]
        assert is_prefix(desk.here, desk.there)
        desk.audit(desk.here, require_signed=True)
        desk.work(desk.there)
        desk.verify(desk.there)

    def test_what_was_left_decides_nothing_any_more_and_says_where_the_ledger_is(self, desk: Desk) -> None:
        writer = desk.sequencer(desk.here)
        writer.open()
        desk.move()
        before = records(desk.here)
        desk.submit(desk.here, desk.ledger.issue())
        submitter = Submitter(desk.installation, desk.here)
        for act in (
            desk.sequencer(desk.here).open,
            desk.sequencer(desk.here).step,
            writer.reopen,
            lambda: submitter.wait(fresh_id(), "acme", 0),
            lambda: submitter.ensure_chain("a-new-tenant"),
        ):
            with pytest.raises(LedgerMovedError, match=f"goes on as '{NAME}'"):
                act()
        submitter.close()
        assert records(desk.here) == before

    def test_a_writer_of_the_destination_is_refused_until_the_move_is_complete(self, desk: Desk) -> None:
        desk.move()
        moved = {chain: desk.here.size(chain) for chain in desk.here.chains()}
        with closing(SqliteEngine(desk.folder / "half" / "ledger.db")) as half:
            appends = [Append(chain, 0, desk.there.read(chain, 0, size)) for chain, size in moved.items()]
            half.commit(Commit(half.open_epoch(), appends))
            with pytest.raises(LedgerMovedError):
                desk.sequencer(half).open()

    def test_a_command_that_was_decided_before_the_move_is_not_decided_again(self, desk: Desk) -> None:
        asked = desk.work(desk.here)
        desk.move()
        before = records(desk.there)
        desk.decide(desk.there, *asked)
        submitter = Submitter(desk.installation, desk.there)
        submitter.ensure_chain("platform")
        submitter.ensure_chain("acme")
        submitter.close()
        assert records(desk.there) == before

    def test_what_waits_is_decided_first_and_what_comes_too_late_is_carried_along(self, desk: Desk) -> None:
        early, late = desk.ledger.issue(), desk.ledger.issue()
        desk.submit(desk.here, early)
        desk.move()
        reply = desk.here.reply(early.command_id, "acme")
        assert reply is not None
        assert reply.outcome == ACCEPTED
        desk.submit(desk.here, late)
        assert [desk.move().carried, desk.move().carried] == [1, 1]
        desk.decide(desk.there)
        causes = [recorded.meta.cause for recorded in read_all(desk.there, "acme")]
        assert causes.count(early.command_id) == causes.count(late.command_id) == 1
        desk.verify(desk.there)

    def test_a_ledger_moves_back_to_where_it_was(self, desk: Desk) -> None:
        desk.move()
        desk.work(desk.there)
        back = desk.mover(desk.there, desk.here)
        assert back.move("here-2").ledger == "here-2"
        desk.work(desk.here)
        with pytest.raises(LedgerMovedError):
            desk.sequencer(desk.there).open()
        desk.verify(desk.here)
        desk.mover(desk.here, desk.there).move("there-3")
        desk.work(desk.there)
        desk.verify(desk.there)

    def test_a_backup_from_before_the_move_is_neither_written_nor_signed(self, desk: Desk) -> None:
        backup = desk.folder / "backup" / "ledger.db"
        backup.parent.mkdir()
        sql(desk.ledger.folder / "ledger.db", f"VACUUM INTO '{backup}'")
        desk.move()
        with closing(SqliteEngine(backup)) as restored:
            with pytest.raises(LedgerMovedError, match="copy from before"):
                desk.sequencer(restored).open()
            with pytest.raises(SignerError):
                desk.sign(restored)
            with pytest.raises((LedgerMovedError, SignerError)), closing(_empty(desk, "third")) as third:
                desk.mover(restored, third).move("third-1")

    def test_a_moved_ledger_goes_on_at_one_place_only(self, desk: Desk) -> None:
        desk.move()
        with closing(_empty(desk, "third")) as third:
            with pytest.raises(DestinationDiffersError, match="elsewhere"):
                desk.mover(desk.here, third).move("third-1")
            with pytest.raises(LedgerMovedError):
                desk.sequencer(third).open()
        desk.verify(desk.there)

    def test_no_ledger_is_moved_under_a_running_server(self, desk: Desk) -> None:
        before = records(desk.here)
        with closing(SequencerLock(desk.ledger.folder)) as lock:
            lock.acquire()
            with pytest.raises(WriterActiveError):
                desk.mover().move(NAME)
        assert (records(desk.here), records(desk.there)) == (before, {})

    @pytest.mark.parametrize("name", ["", "no name", "x" * 200])
    def test_a_name_that_cannot_be_one_ends_nothing(self, desk: Desk, name: str) -> None:
        with pytest.raises(RejectedError):
            desk.move(name)
        assert "LedgerMoved" not in desk.names(desk.here)
        desk.work(desk.here)
        assert read_home(desk.ledger.folder) is None

    @pytest.mark.parametrize("command", [MoveLedger("elsewhere"), ContinueLedger("elsewhere")])
    def test_no_ledger_is_moved_through_the_intake(self, desk: Desk, command: MoveLedger | ContinueLedger) -> None:
        envelope = make_envelope(
            command, chain="acme", stream=stream_of(command), command_id=fresh_id(), now=desk.ledger.clock()
        )
        before = records(desk.here)
        desk.decide(desk.here, envelope)
        reply = desk.here.reply(envelope.command_id)
        assert reply is not None
        assert (reply.outcome, reply.code) == (REFUSED, "forbidden")
        assert records(desk.here) == before


def _empty(desk: Desk, name: str) -> SqliteEngine:
    return SqliteEngine(desk.folder / name / "ledger.db")


class TestBreaks:
    def test_a_copy_that_is_broken_off_at_any_write_is_taken_up_and_ends_the_same(self, tmp_path: Path) -> None:
        for write, desk in broken(tmp_path, moving=False):
            assert is_prefix(desk.there, desk.here), write
            desk.copy()
            assert records(desk.there) == records(desk.here), write
            assert decided(desk.here).items() <= decided(desk.there).items()
            desk.audit(desk.there, require_signed=True)

    def test_a_move_that_is_broken_off_at_any_write_is_taken_up_and_ends_the_same(self, tmp_path: Path) -> None:
        for write, desk in broken(tmp_path, moving=True):
            assert not (writable(desk, desk.here) and "LedgerMoved" in desk.names(desk.there)), write
            desk.move("another-name")
            assert desk.names(desk.there).count("LedgerMoved") == desk.names(desk.there).count("LedgerContinued") == 1
            assert is_prefix(desk.here, desk.there), write
            assert decided(desk.here).items() <= decided(desk.there).items()
            assert not writable(desk, desk.here)
            desk.work(desk.there)
            desk.verify(desk.there)


def broken(folder: Path, *, moving: bool) -> Iterator[tuple[int, Desk]]:
    """A desk for each write of a copy or move, which was ended behind it."""
    write = 0
    while True:
        desk = Desk(folder / str(write))
        desk.work(desk.here, 1)
        desk.submit(desk.here, desk.ledger.issue())
        desk.fuse.left = write + 0.5
        try:
            desk.move() if moving else desk.copy()
        except Crash:
            desk.fuse.left = float("inf")
            yield write, desk
            write += 1
        else:
            assert write > 5, "nothing was written"
            return
        finally:
            desk.close()


def writable(desk: Desk, engine: LogEngine) -> bool:
    try:
        desk.sequencer(engine).open()
    except LedgerMovedError:
        return False
    return True
