from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, update
from sqlalchemy.orm import Session

from api.observability.ledger import VIEWS, look
from producers.installation import Installation
from projections import slots
from projections.database import sqlite_url
from projections.errors import ViewsInUseError
from projections.models import Watermark
from projections.projector import Projector
from projections.rebuild import keeping_views, rebuild
from projections.slots import held, holding, open_slot
from projections.watermarks import watermarks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def installation(data_dir: Path) -> Iterator[Installation]:
    with closing(Installation.open(data_dir)) as installation:
        yield installation


def folded(path: Path, installation: Installation) -> dict[str, int]:
    """Open a slot, and fold what is not folded yet; what was folded before that."""
    database = open_slot(path, installation.engine())
    before = watermarks(path)
    Projector(installation.engine(), database).catch_up()
    database.dispose()
    assert before is not None
    return before


def test_each_process_has_the_first_slot_that_is_free(data_dir: Path) -> None:
    first = data_dir / "views.db"
    with ExitStack() as stack:
        names = [stack.enter_context(holding(data_dir, first)).name for _ in range(3)]
        assert names == ["views.db", "views-1.db", "views-2.db"]
        assert [path.name for path in held(data_dir, first)] == names
    with holding(data_dir, first) as again:
        assert again == first
    assert held(data_dir, first) == []


def test_a_server_that_decides_as_well_has_the_first_slot(data_dir: Path) -> None:
    with keeping_views(data_dir), holding(data_dir, data_dir / "views.db") as slot:
        assert slot.name == "views-1.db"


def test_there_is_an_end_of_slots(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MOST", 1)
    first = data_dir / "views.db"
    with holding(data_dir, first), pytest.raises(ViewsInUseError), holding(data_dir, first):
        pass


def test_what_a_slot_holds_stays_for_the_next_process(installation: Installation) -> None:
    path = installation.data_dir / "views-1.db"
    assert folded(path, installation) == {}
    assert folded(path, installation) == dict(installation.engine().sizes())


@pytest.mark.parametrize("other", [{"last_leaf_hash": "00" * 32}, {"size": 1_000_000}])
def test_what_was_folded_from_another_ledger_is_folded_anew(
    installation: Installation, other: dict[str, str | int]
) -> None:
    path = installation.data_dir / "views-1.db"
    folded(path, installation)
    database = create_engine(sqlite_url(path))
    with Session(database) as session, session.begin():
        session.execute(update(Watermark).where(Watermark.chain == "platform").values(**other))
    database.dispose()
    assert folded(path, installation) == {}
    assert watermarks(path) == dict(installation.engine().sizes())


def test_what_is_no_database_is_folded_anew(installation: Installation) -> None:
    path = installation.data_dir / "views-1.db"
    path.write_bytes(b"this is no database" * 1000)
    assert folded(path, installation) == {}
    assert watermarks(path) == dict(installation.engine().sizes())


def test_a_rebuild_leaves_no_slot_as_it_was(installation: Installation) -> None:
    data_dir, first = installation.data_dir, installation.data_dir / "views.db"
    with holding(data_dir, first), holding(data_dir, first) as second:
        folded(second, installation)
        with pytest.raises(ViewsInUseError):
            rebuild(data_dir, installation.engine())
    rebuild(data_dir, installation.engine())
    assert (first.exists(), second.exists()) == (True, False)


def test_the_status_tells_of_the_views_that_are_furthest_behind(installation: Installation) -> None:
    data_dir, first = installation.data_dir, installation.data_dir / "views.db"
    with holding(data_dir, first) as one, holding(data_dir, first) as two:
        folded(one, installation)
        open_slot(two, installation.engine()).dispose()
        lags = [each.total for each in look(installation, installation.engine()).positions if each.reader == VIEWS]
    assert lags == [sum(installation.engine().sizes().values())]
