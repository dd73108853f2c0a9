from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.placement.errors import StandingError
from processors.placement.standing import MAX_BASES, MAX_WORKER, Standing

GOOD = asdict(Standing("w", 1, {"a": 2}, 3, 2, 1))


COUNTS = st.integers(0, 1 << 60)
SIZES = st.dictionaries(st.text("0123456789abcdef", min_size=1), COUNTS)


@given(st.text(min_size=1, max_size=MAX_WORKER), SIZES, COUNTS)
def test_a_standing_arrives_as_it_was(worker: str, bases: dict[str, int], count: int) -> None:
    standing = Standing(worker, count, bases, memory=count, used=count, runs=count)
    assert Standing.from_bytes(standing.to_bytes()) == standing


MALFORMED = {
    "nothing": b"",
    "no JSON": b"\xff",
    "a list": b"[]",
    "nested without end": b"[" * 100_000,
    "no worker": json.dumps({**GOOD, "worker": None}).encode(),
    "an empty worker": json.dumps({**GOOD, "worker": ""}).encode(),
    "a long worker": json.dumps({**GOOD, "worker": "w" * (MAX_WORKER + 1)}).encode(),
    "a negative number": json.dumps({**GOOD, "used": -1}).encode(),
    "a fraction": json.dumps({**GOOD, "memory": 0.5}).encode(),
    "no truth": json.dumps({**GOOD, "leaving": 1}).encode(),
    "a truth for a number": json.dumps({**GOOD, "runs": True}).encode(),
    "bases that are no table": json.dumps({**GOOD, "bases": ["a"]}).encode(),
    "a base without a size": json.dumps({**GOOD, "bases": {"a": None}}).encode(),
    "too many bases": json.dumps({**GOOD, "bases": {str(n): 1 for n in range(MAX_BASES + 1)}}).encode(),
    "a part left out": json.dumps({key: value for key, value in GOOD.items() if key != "runs"}).encode(),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_standing_is_refused(data: bytes) -> None:
    with pytest.raises(StandingError):
        Standing.from_bytes(data)
