"""The compact table of places: what a dictionary of lists would say, in a fraction of its memory."""

from __future__ import annotations

from collections import defaultdict
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from producers.sequencer.places import Places

PLACES = st.integers(0, (1 << 64) - 2)
FEW_SLOTS = st.integers(0, 3).map(lambda number: number << 4)
"""Keys that all want the same slot of a young table."""
KEYS = st.one_of(FEW_SLOTS, st.integers(-(1 << 63), (1 << 63) - 1), st.sampled_from([-1, (1 << 63) - 1, -(1 << 63)]))


@given(st.lists(st.tuples(KEYS, PLACES), max_size=300), st.lists(KEYS))
def test_every_place_of_a_key_is_found_and_no_other(added: list[tuple[int, int]], others: list[int]) -> None:
    places, expected = Places(), defaultdict[int, list[int]](list)
    for key, place in added:
        places.add(key, place)
        if place not in expected[key]:
            expected[key].append(place)
    for key in [*expected, *others]:
        assert sorted(places.find(key)) == sorted(expected.get(key, []))
    assert len(places) == sum(map(len, expected.values()))


def test_a_large_table_takes_a_few_words_an_entry() -> None:
    random, places = Random(1), Places()
    keys = [random.getrandbits(64) for _ in range(50_000)]
    for place, key in enumerate(keys):
        places.add(key, place)
    assert all(place in places.find(key) for place, key in enumerate(keys))
    assert places.held < 50 * len(places)
