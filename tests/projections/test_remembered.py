"""Remembered answers are as new as the views that they are given for, or newer; never older."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from projections.remembered import Remembered


class Database:
    """A row per chain whose value grows; the size that readers are told moves after the row, as a projector's does."""

    def __init__(self) -> None:
        self.rows = {"a": 0, "b": 0}
        self.told = {"a": 0, "b": 0}
        self.asked = 0

    def ask(self, chain: str) -> Callable[[], int]:
        def answer() -> int:
            self.asked += 1
            return self.rows[chain]

        return answer


def test_a_quiet_chain_is_asked_once_and_a_record_has_it_asked_anew() -> None:
    database = Database()
    remembered = Remembered(database.told.__getitem__)
    assert [remembered.get("a", "row", database.ask("a")) for _ in range(3)] == [0, 0, 0]
    database.rows["a"] = database.told["a"] = 1
    assert remembered.get("a", "row", database.ask("a")) == 1
    assert database.asked == 2


def test_another_chains_records_change_nothing() -> None:
    database = Database()
    remembered = Remembered(database.told.__getitem__)
    remembered.get("a", "row", database.ask("a"))
    database.rows["b"] = database.told["b"] = 1
    remembered.get("a", "row", database.ask("a"))
    assert database.asked == 1


def test_the_oldest_answers_give_way() -> None:
    database = Database()
    remembered = Remembered(database.told.__getitem__, capacity=2)
    for key in ("x", "y", "z", "x"):
        remembered.get("a", key, database.ask("a"))
    assert database.asked == 4


CHAINS = st.sampled_from(["a", "b"])


class Interleaving(RuleBasedStateMachine):
    """Commits, notices and questions in any order; a question may be answered in the middle of a commit."""

    def __init__(self) -> None:
        super().__init__()
        self.database = Database()
        self.remembered = Remembered(self.database.told.__getitem__)

    @rule(chain=CHAINS)
    def commit(self, chain: str) -> None:
        self.database.rows[chain] += 1

    @rule(chain=CHAINS)
    def tell(self, chain: str) -> None:
        self.database.told[chain] = self.database.rows[chain]

    @rule(chain=CHAINS)
    def ask(self, chain: str) -> None:
        assert self.remembered.get(chain, "row", self.database.ask(chain)) >= self.database.told[chain]

    @rule(chain=CHAINS)
    def ask_across_a_commit(self, chain: str) -> None:
        def slow() -> int:
            value = self.database.rows[chain]
            self.database.rows[chain] += 1
            self.database.told[chain] = self.database.rows[chain]
            return value

        self.remembered.get(chain, "row", slow)
        assert self.remembered.get(chain, "row", self.database.ask(chain)) >= self.database.told[chain]


TestInterleaving = Interleaving.TestCase
