"""A writer decides ahead of the commit that is under way; if that one fails, what was decided upon it falls with it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from producers.engines.errors import StorageFullError
from producers.sequencer import Limits, Sequencer
from tests.support.ledgers import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from producers.engines.port import Commit, IntakeEntry, LogEngine

SOON = 20.0


class HeldCommits:
    """The real engine; its first commit goes on once entries behind it have been taken, and then ends or fails."""

    def __init__(self, engine: LogEngine, *, fails: bool) -> None:
        self._engine = engine
        self._fails = fails
        self._writing: int | None = None
        self._taken_behind = threading.Event()
        self.overtaken = False
        self.begun = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def intake(self, after: int, limit: int, *, complete: bool = True) -> Sequence[IntakeEntry]:
        found = self._engine.intake(after, limit, complete=complete)
        if found and after == self._writing:
            self._taken_behind.set()
        return found

    def go_on(self) -> None:
        """End the first commit, whatever was taken."""
        self._taken_behind.set()

    def commit(self, commit: Commit) -> None:
        if not self.begun.is_set():
            self._writing = commit.intake_position
            self.begun.set()
            self.overtaken = self._taken_behind.wait(SOON)
            if self._fails:
                raise StorageFullError("There is no space.")
        self._engine.commit(commit)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "data")
    yield made
    made.close()


@pytest.mark.parametrize("fails", [False, True], ids=["committed", "failed"])
def test_the_next_micro_batch_fills_while_one_is_written_and_falls_with_it(ledger: Ledger, *, fails: bool) -> None:
    engine = HeldCommits(ledger.engine, fails=fails)
    stop = threading.Event()
    first, second, late = ledger.issue("one"), ledger.issue("two"), ledger.issue("one")
    sequencer = Sequencer.of(ledger.installation, engine, Limits(full_seconds=0.01))
    thread = threading.Thread(target=sequencer.run, args=(stop,))
    ledger.submit(first)
    thread.start()
    assert engine.begun.wait(SOON)
    ledger.submit(second, late, first)  # One builds on what is being written, one contradicts it, one is that itself.
    asked = (first, second, late)
    while any(ledger.engine.reply(each.command_id) is None for each in asked):
        ledger.engine.wait({"acme": ledger.engine.size("acme")}, 0.05)
    stop.set()
    thread.join(SOON)
    replies = [ledger.engine.reply(each.command_id) for each in asked]
    assert engine.overtaken
    assert [reply and (reply.outcome, reply.code) for reply in replies] == [
        ("accepted", ""),
        ("accepted", ""),
        ("rejected", "already_exists"),
    ]
    causes = [recorded.meta.cause for recorded in ledger.events("acme") if recorded.meta.cause]
    assert len(causes) == len(set(causes))
    ledger.verify()


def test_what_is_being_written_when_a_writer_is_told_to_stop_is_known_to_it(ledger: Ledger) -> None:
    engine, stop = HeldCommits(ledger.engine, fails=False), threading.Event()
    sequencer = Sequencer.of(ledger.installation, engine)
    thread = threading.Thread(target=sequencer.run, args=(stop,))
    ledger.submit(ledger.issue())
    thread.start()
    assert engine.begun.wait(SOON)
    stop.set()
    ledger.submit(ledger.issue())
    engine.go_on()
    thread.join(SOON)
    while sequencer.step():  # It goes on where it stands: upon what it has committed.
        pass
    stored = ledger.engine.load_snapshot("acme")
    assert stored is not None
    assert ledger.names("acme").count("ApiKeyIssued") == 2
    ledger.verify()
