"""Whatever is asked, moved and broken off in whatever order: one history, written at one place, each command once."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from producers.errors import LedgerMovedError
from tests.moving.desk import Crash, Desk, is_prefix
from tests.support.ledgers import read_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensorguard.ledger.envelope import Envelope


class Interleavings(RuleBasedStateMachine):
    """A ledger that goes to and fro between two places, of which ``desk.here`` is the one that it is at or leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.desk = Desk(self.folder)
        self.moves = 0
        self.moving = False
        self.asked: list[Envelope] = []

    def teardown(self) -> None:
        self.finish_the_move()
        self.desk.decide(self.desk.here, *self.asked)
        causes = Counter(each.meta.cause for each in read_all(self.desk.here, "acme"))
        assert {causes[envelope.command_id] for envelope in self.asked} <= {1}
        self.desk.verify(self.desk.here)
        self.desk.close()
        shutil.rmtree(self.folder)

    @rule()
    def ask(self) -> None:
        self.asked.append(self.desk.ledger.issue())
        self.desk.submit(self.desk.here, self.asked[-1])

    @rule(number=st.integers(0))
    def ask_again(self, number: int) -> None:
        if self.asked:
            self.desk.submit(self.desk.here, self.asked[number % len(self.asked)])

    @rule()
    def decide(self) -> None:
        try:
            self.desk.decide(self.desk.here)
        except LedgerMovedError:
            assert self.moving

    @rule(left=st.integers(0, 24))
    def copy_and_crash(self, left: int) -> None:
        self.until_it_ends(left, self.desk.copy)

    @rule(left=st.integers(0, 32))
    def move_and_crash(self, left: int) -> None:
        self.moving = True
        self.until_it_ends(left, self.move)

    @rule()
    def finish_the_move(self) -> None:
        if self.moving:
            self.move()

    @invariant()
    def one_of_the_two_begins_with_the_other(self) -> None:
        here, there = self.desk.here, self.desk.there
        assert is_prefix(here, there) or is_prefix(there, here)

    def until_it_ends(self, left: int, act: Callable[[], object]) -> None:
        self.desk.fuse.left = left / 2
        try:
            act()
        except Crash:
            pass
        finally:
            self.desk.fuse.left = float("inf")

    def move(self) -> None:
        """Move; once that is complete the two places change their parts."""
        self.desk.move(f"place-{self.moves}")
        self.moves, self.moving = self.moves + 1, False
        self.desk.here, self.desk.there = self.desk.there, self.desk.here


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
