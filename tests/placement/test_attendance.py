"""Who counts as there, as silent, as lost."""

from __future__ import annotations

import pytest

from processors.placement.roster import Attendance, LocalRoster
from processors.placement.standing import Standing

LEASE = 12.0
GAP = LEASE / 3


class Hall:
    """An attendance under one clock for everybody."""

    def __init__(self, *, strangers_lost: bool = False) -> None:
        self.now = 0.0
        self.attendance = Attendance(LEASE, lambda: self.now, strangers_lost=strangers_lost)

    def pass_by(self, seconds: float, *speaking: str) -> None:
        """Let time pass while some speak every two seconds."""
        end = self.now + seconds
        while self.now < end:
            self.now += 2.0
            for worker in speaking:
                self.attendance.heard(Standing(worker), self.now)

    @property
    def there(self) -> list[str]:
        return [standing.worker for standing in self.attendance.standings()]


@pytest.fixture
def hall() -> Hall:
    return Hall()


def test_who_was_heard_is_there_as_he_last_said(hall: Hall) -> None:
    hall.attendance.heard(Standing("w2"), 0.0)
    hall.attendance.heard(Standing("w1", runs=1), 0.0)
    hall.attendance.heard(Standing("w1", runs=2), 0.1)
    assert hall.attendance.standings() == [Standing("w1", runs=2), Standing("w2")]


def test_who_falls_silent_while_others_speak_is_lost_after_the_lease_time(hall: Hall) -> None:
    hall.pass_by(2, "w1", "w2")
    hall.pass_by(LEASE, "w2")
    assert (hall.there, hall.attendance.lost("w1")) == (["w1", "w2"], False)
    hall.pass_by(2, "w2")
    assert (hall.there, hall.attendance.lost("w1")) == (["w2"], True)


def test_who_speaks_again_is_there_again(hall: Hall) -> None:
    hall.pass_by(2, "w1", "w2")
    hall.pass_by(2 * LEASE, "w2")
    hall.pass_by(2, "w1")
    assert (hall.there, hall.attendance.lost("w1")) == (["w1", "w2"], False)


def test_a_silence_of_all_makes_nobody_lost(hall: Hall) -> None:
    hall.pass_by(2, "w1", "w2")
    hall.pass_by(100)
    assert (hall.there, hall.attendance.lost("w1")) == ([], False)
    hall.pass_by(2, "w1")
    assert (hall.there, hall.attendance.lost("w2")) == (["w1"], False)
    hall.pass_by(LEASE, "w1")
    assert (hall.there, hall.attendance.lost("w2")) == (["w1"], True)


def test_who_left_is_gone_at_once_and_for_good(hall: Hall) -> None:
    hall.pass_by(2, "w1")
    hall.attendance.left("w1")
    hall.pass_by(2, "w1")
    assert (hall.there, hall.attendance.lost("w1")) == ([], True)


def test_a_stranger_is_lost_once_he_could_have_been_heard(hall: Hall) -> None:
    hall.pass_by(LEASE, "w1")
    assert not hall.attendance.lost("w2")
    hall.pass_by(4, "w1")
    assert hall.attendance.lost("w2")
    assert Hall(strangers_lost=True).attendance.lost("w2")


def test_stamps_that_go_back_move_no_clock(hall: Hall) -> None:
    for at in (5.0, 1.0, 5.0, 2.0, 5.0):
        for _ in range(10):
            hall.attendance.heard(Standing("w1"), at)
    assert not hall.attendance.lost("w2")


def test_a_local_roster_that_is_closed_has_nobody() -> None:
    roster = LocalRoster()
    roster.announce(Standing("w1"))
    assert roster.standings() == [Standing("w1")]
    roster.close()
    assert roster.standings() == ()


def test_the_exchange_tells_a_local_roster_of_trainers_by_their_own_word_alone() -> None:
    roster = LocalRoster()
    roster.announced("w1", Standing("w1", runs=1).to_bytes())
    roster.announced("w2", Standing("w3").to_bytes())
    roster.announced("w4", b"[]")
    assert roster.standings() == [Standing("w1", runs=1)]
    roster.left("w1")
    roster.trainer_gone("w5")
    assert roster.standings() == []
    assert roster.lost("w5")
