"""Cursors: good for the list and the tenant that they were given to, and for nobody's handiwork."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import ApiError
from api.paging import Cursors
from tests.support.doors import OTHER, TENANT, Doors, open_doors

CURSORS = Cursors(b"s" * 32)
NAMES = st.text(max_size=30)


@given(tenant=NAMES, listing=NAMES, position=st.integers(0, 1 << 62))
def test_a_cursor_leads_back_to_its_position(tenant: str, listing: str, position: int) -> None:
    assert CURSORS.decode(tenant, listing, CURSORS.encode(tenant, listing, position)) == position


@given(cursor=st.one_of(st.text(max_size=80), st.binary(max_size=80).map(lambda data: data.hex())))
def test_a_cursor_that_was_not_given_is_refused(cursor: str) -> None:
    with pytest.raises(ApiError):
        CURSORS.decode(TENANT, "runs", cursor)


def test_a_cursor_of_another_list_tenant_or_key_is_refused() -> None:
    cursor = CURSORS.encode(TENANT, "runs", 7)
    for cursors, tenant, listing in (
        (CURSORS, TENANT, "packages"),
        (CURSORS, OTHER, "runs"),
        (Cursors(b"t" * 32), TENANT, "runs"),
    ):
        with pytest.raises(ApiError, match="start without one"):
            cursors.decode(tenant, listing, cursor)


@given(place=st.integers(0, 40), bit=st.integers(0, 5))
def test_a_cursor_with_one_bit_changed_is_refused(place: int, bit: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    cursor = CURSORS.encode(TENANT, "runs", 7)
    place %= len(cursor) - 1  # the last character has bits that stand for nothing
    other = alphabet[alphabet.index(cursor[place]) ^ (1 << bit)]
    with pytest.raises(ApiError):
        CURSORS.decode(TENANT, "runs", cursor[:place] + other + cursor[place + 1 :])


def test_cursors_live_as_long_as_the_secret(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def go_on(cursor: str) -> int:
        with open_doors(data_dir) as doors:
            status: int = doors.call("GET", f"/v1/audit_logs?limit=1&cursor={cursor}").status_code
            return status

    with open_doors(data_dir) as doors:
        cursor = _next(doors)
    assert go_on(cursor) == 200
    monkeypatch.setenv("TG_SECRET_KEY", "s" * 32)
    assert go_on(cursor) == 422
    with open_doors(data_dir) as doors:
        cursor = _next(doors)
    assert go_on(cursor) == 200


def _next(doors: Doors) -> str:
    cursor: str = doors.get("/v1/audit_logs?limit=1")["next_cursor"]
    return cursor
