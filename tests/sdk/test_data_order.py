"""Division and order depend on the seed and the data alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tg_tinker import errors
from tg_tinker.data import Record, Stream, shuffled, split


def _stream(count: int, prefix: str = "text") -> Stream[Record]:
    return Stream(lambda: (Record(f"{prefix} {n}", Path("x"), n + 1) for n in range(count)), count)


def _texts(records: Stream[Record]) -> list[str]:
    return [record.value for record in records]


@pytest.mark.parametrize("by", ["content", "index"])
def test_the_two_sides_share_nothing_and_leave_nothing_out(by: str) -> None:
    train, validation = split(_stream(2000), 0.1, seed=3, by=by)  # type: ignore[arg-type]
    kept, held_back = _texts(train), _texts(validation)
    assert sorted(kept + held_back) == sorted(_texts(_stream(2000)))
    assert 140 < len(held_back) < 260
    assert (_texts(train), _texts(validation)) == (kept, held_back)
    assert _texts(split(_stream(2000), 0.1, seed=4, by=by)[1]) != held_back  # type: ignore[arg-type]


def test_by_content_a_record_stays_where_it_is_when_the_file_grows() -> None:
    held_back = _texts(split(_stream(500), 0.2)[1])
    doubled = Stream(lambda: (record for part in (_stream(300, "new"), _stream(500), _stream(500)) for record in part))
    again = [text for text in _texts(split(doubled, 0.2)[1]) if text.startswith("text")]
    assert again == held_back * 2


def test_all_or_nothing_can_be_held_back() -> None:
    assert [len(_texts(side)) for side in split(_stream(50), 0)] == [50, 0]
    assert [len(_texts(side)) for side in split(_stream(50), 1)] == [0, 50]
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(errors.ConfigurationError):
            split(_stream(1), share)


@given(st.integers(0, 60), st.integers(1, 80), st.integers(0, 5))
def test_shuffling_loses_and_doubles_nothing_and_is_bounded(count: int, buffer: int, seed: int) -> None:
    numbers = Stream(lambda: iter(range(count)), count)
    order = shuffled(numbers, seed, buffer=buffer)
    found = list(order)
    assert sorted(found) == list(range(count))
    assert found == list(order)
    assert len(order) == count
    assert all(number - place <= buffer for place, number in enumerate(found))


def test_seeds_and_epochs_are_other_orders() -> None:
    numbers = Stream(lambda: iter(range(100)))
    orders = {tuple(shuffled(numbers, seed, epoch=epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert list(range(100)) not in map(list, orders)
    assert list(shuffled(numbers, 1)) == list(shuffled(numbers, 1, epoch=0))


def test_an_order_never_holds_more_than_its_buffer() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    for given_out, _ in enumerate(shuffled(Stream(numbers), 1, buffer=16)):
        assert len(taken) - given_out <= 17
    with pytest.raises(errors.ConfigurationError):
        shuffled(Stream(numbers), 1, buffer=0)
