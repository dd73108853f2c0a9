"""What another process was told of is found by its id, though the views here are behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from projections.projector import Projector
from projections.queries import Views
from projections.slots import open_slot
from tests.support.doors import TENANT, Doors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def other(doors: Doors, tmp_path: Path) -> Iterator[tuple[Projector, Views]]:
    """Views that hold what there is now; nobody folds what comes after."""
    database = open_slot(tmp_path / "other.db", doors.platform.engine)
    projector = Projector(doors.platform.engine, database)
    projector.catch_up()
    yield projector, Views(database, projector.size).catching_up(projector.catch_up_with)
    database.dispose()


def test_a_question_waits_for_what_is_committed_and_no_longer(doors: Doors, other: tuple[Projector, Views]) -> None:
    projector, views = other
    run, asked = doors.create(), threading.Event()

    def fold() -> None:
        asked.wait(20)
        projector.catch_up()

    def catch_up_with(chain: str) -> bool:
        asked.set()
        return projector.catch_up_with(chain)

    folding = threading.Thread(target=fold)
    folding.start()
    found = views.catching_up(catch_up_with).run(TENANT, run)
    folding.join()
    assert found is not None
    assert views.run(TENANT, "run-that-there-is-not") is None


def test_what_was_folded_since_the_question_is_found(doors: Doors, other: tuple[Projector, Views]) -> None:
    projector, views = other
    run = doors.create()

    def catch_up_with(chain: str) -> bool:
        projector.catch_up()
        return projector.catch_up_with(chain)

    assert views.catching_up(catch_up_with).run(TENANT, run) is not None


def test_a_question_whose_answer_is_there_waits_for_nothing(doors: Doors, other: tuple[Projector, Views]) -> None:
    projector, views = other
    run = doors.create()
    projector.catch_up()
    doors.create()
    found = views.run(TENANT, run)
    assert found is not None
    assert projector.behind() > 0


def test_views_that_stand_still_say_that_there_is_nothing(
    doors: Doors, other: tuple[Projector, Views], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.projector.CATCH_UP_SECONDS", 0.0)
    _, views = other
    assert views.run(TENANT, doors.create()) is None
