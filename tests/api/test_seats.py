"""What the seats of trainers say to the roster: who starts, who died, and who sat there when the server was killed."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from api.children import STEADY_SECONDS
from api.seats import BRIEF_LIVES, TrainerSeats
from processors.exchange.hub import Hub
from processors.placement.roster import LocalRoster
from producers.installation import Installation
from tests.support.ledgers import installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api.children import Child


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    monkeypatch.setenv("TG_TRAINERS", "2")
    monkeypatch.setenv("TG_TRAINER_MEMORY_BYTES", "1000")
    with closing(Installation.open(installed(tmp_path / "data"))) as opened:
        yield opened


def workers(roster: LocalRoster) -> list[str]:
    return [standing.worker for standing in roster.standings()]


def live(child: Child) -> None:
    """A trainer is started and killed."""
    process = child.start()
    process.kill()
    process.wait(30)


def test_a_trainer_is_on_the_roster_from_its_start_to_its_death_and_each_one_is_another(
    installation: Installation,
) -> None:
    roster = LocalRoster()
    with closing(TrainerSeats(installation, roster)) as seats:
        one, other = seats.children()
        assert [one.name, other.name] == ["trainer-0", "trainer-1"]
        live(one)
        live(other)
        first, second = workers(roster)
        assert [standing.memory for standing in roster.standings()] == [1000, 1000]
        one.ended()
        assert len(workers(roster)) == 1
        live(one)
        assert len({first, second, *workers(roster)}) == 3
        assert not seats.ready(Hub())


def test_who_takes_a_seat_knows_that_the_one_who_had_it_is_gone(installation: Installation) -> None:
    before, after = LocalRoster(), LocalRoster()
    with closing(TrainerSeats(installation, before)) as seats:
        live(seats.children()[0])
        with closing(TrainerSeats(installation, after)) as elsewhere:
            live(elsewhere.children()[0])
            assert workers(before) != workers(after)
    [gone] = workers(before)
    after.announce(before.standings()[0])
    with closing(TrainerSeats(installation, after)) as again:
        live(again.children()[0])
    assert gone not in workers(after)


def test_who_dies_at_once_again_and_again_is_given_no_runs_until_it_asks_for_them(installation: Installation) -> None:
    """A trainer that cannot start, for want of its device say: each grant of a lease is a record of the ledger."""
    roster, now, heard = LocalRoster(), 0.0, []
    with closing(TrainerSeats(installation, roster, lambda: now)) as seats:
        seat, _ = seats.children()
        for _ in range(BRIEF_LIVES + 2):
            live(seat)
            heard.append(len(workers(roster)))
            seat.ended()
        assert heard == [1] * BRIEF_LIVES + [0, 0]
        live(seat)
        now += STEADY_SECONDS
        seat.ended()
        live(seat)
        assert len(workers(roster)) == 1
