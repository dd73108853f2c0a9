"""What holds for every roster."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from processors.placement.standing import Standing
from tests.placement.kits import Kit, eventually, kafka_kit, local_kit
from tests.support.kafka import broker

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = Standing("w1", 5, {"a" * 64: 20}, memory=100, used=60, runs=3)


KITS = {"local": local_kit, "kafka": lambda *lease: kafka_kit(broker().config(), *lease)}


@pytest.fixture(params=KITS.values(), ids=list(KITS))
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    with closing(request.param()) as made:
        yield made


@pytest.fixture(params=KITS.values(), ids=list(KITS))
def impatient(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """A roster whose lease time is short."""
    with closing(request.param(0.6)) as made:
        yield made


def test_what_trainers_say_is_known_and_the_newest_counts(kit: Kit) -> None:
    with closing(kit.reader()) as reader:
        kit.speaker.announce(Standing("w1"))
        kit.speaker.announce(Standing("w2", runs=1))
        kit.speaker.announce(FULL)
        assert eventually(reader, lambda: list(reader.standings()) == [FULL, Standing("w2", runs=1)])
        assert not reader.lost("w1")


def test_who_leaves_is_lost_at_once_and_for_good(kit: Kit) -> None:
    with closing(kit.reader()) as reader:
        kit.speaker.announce(Standing("w1"))
        kit.speaker.announce(Standing("w2"))
        assert eventually(reader, lambda: len(reader.standings()) == 2)
        kit.speaker.leave("w1")
        kit.speaker.announce(Standing("w1"))
        kit.speaker.announce(Standing("w2", runs=7))
        assert eventually(reader, lambda: list(reader.standings()) == [Standing("w2", runs=7)])
        assert (reader.lost("w1"), reader.lost("w2")) == (True, False)


def test_a_reader_that_comes_later_knows_who_is_there_and_who_left(kit: Kit) -> None:
    kit.speaker.announce(Standing("gone"))
    kit.speaker.announce(FULL)
    kit.speaker.leave("gone")
    with closing(kit.reader()) as reader:
        assert eventually(reader, lambda: list(reader.standings()) == [FULL])
        assert (reader.lost("gone"), reader.lost("w1")) == (True, False)


def test_who_falls_silent_while_others_speak_is_lost(impatient: Kit) -> None:
    with closing(impatient.reader()) as reader:
        impatient.speaker.announce(Standing("silent"))
        assert eventually(reader, lambda: list(reader.standings()) == [Standing("silent")])

        def lost() -> bool:
            impatient.speaker.announce(Standing("speaking"))
            return reader.lost("silent")

        assert eventually(reader, lost)
        assert eventually(reader, lambda: not reader.lost("speaking"))


def test_a_silence_of_all_loses_nobody(impatient: Kit) -> None:
    with closing(impatient.reader()) as reader:
        impatient.speaker.announce(Standing("one"))
        impatient.speaker.announce(Standing("other"))
        assert eventually(reader, lambda: len(reader.standings()) == 2)
        assert eventually(reader, lambda: not reader.standings())
        assert (reader.lost("one"), reader.lost("other")) == (False, False)


def test_a_stranger_is_lost_once_nothing_can_come_from_him(impatient: Kit) -> None:
    with closing(impatient.reader()) as reader:
        impatient.speaker.announce(Standing("w1"))
        assert eventually(reader, lambda: len(reader.standings()) == 1)
        assert reader.lost("stranger") == impatient.strangers_lost

        def lost() -> bool:
            impatient.speaker.announce(Standing("w1"))
            return reader.lost("stranger")

        assert eventually(reader, lost)


def test_a_roster_that_is_closed_has_nobody(kit: Kit) -> None:
    reader = kit.reader()
    kit.speaker.announce(FULL)
    assert eventually(reader, lambda: len(reader.standings()) == 1)
    reader.close()
    assert list(reader.standings()) == []
