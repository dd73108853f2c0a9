"""Which trainer a run goes to, whatever the trainers are."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from processors.placement.choice import FULL, SMALL, Grant, Need, choose
from processors.placement.standing import Standing

BASES = ("a" * 64, "b" * 64)
NEED = Need(BASES[0], 20)


@st.composite
def standings(draw: st.DrawFn) -> list[Standing]:
    found = []
    for name in draw(st.sets(st.sampled_from("uvwxyz"), max_size=5)):
        bases = draw(st.dictionaries(st.sampled_from(BASES), st.integers(1, 40), max_size=2))
        memory = draw(st.sampled_from((0, 100, 200)))
        used = sum(bases.values()) + draw(st.integers(0, 150))
        found.append(Standing(name, bases=bases, memory=memory, used=used, runs=draw(st.integers(0, 5))))
    return found


def roomy(standing: Standing, need: Need = NEED) -> bool:
    size = 0 if need.base in standing.bases else need.size
    return not standing.memory or standing.free - size > (1 - FULL) * standing.memory


def chosen(among: list[Standing], need: Need = NEED) -> Standing:
    worker = choose(among, need)
    return next(standing for standing in among if standing.worker == worker)


@given(standings())
def test_somebody_is_chosen_where_there_is_anybody_and_always_the_same(among: list[Standing]) -> None:
    worker = choose(among, NEED)
    assert (worker is None) == (not among)
    assert worker == choose(among[::-1], NEED)


@given(standings().filter(bool))
def test_a_full_trainer_is_only_chosen_where_all_are_full(among: list[Standing]) -> None:
    assert roomy(chosen(among)) == any(map(roomy, among))


@given(standings().filter(bool))
def test_a_trainer_without_the_base_model_is_only_chosen_where_none_with_room_has_it_or_it_is_idle(
    among: list[Standing],
) -> None:
    found = chosen(among)
    if NEED.base not in found.bases and any(NEED.base in each.bases and roomy(each) for each in among):
        assert found.runs == 0
        assert not found.memory or NEED.size <= SMALL * found.memory


@given(st.integers(1, 5), st.integers(0, 40))
def test_runs_that_come_at_once_are_spread_evenly_over_like_trainers(trainers: int, runs: int) -> None:
    among = [Standing(f"w{number}", memory=100, used=20, bases={NEED.base: 20}) for number in range(trainers)]
    grants: Counter[Grant] = Counter()
    for _ in range(runs):
        worker = choose(among, NEED, grants)
        assert worker is not None
        grants[Grant(worker, NEED)] += 1
    counts = [grants[Grant(standing.worker, NEED)] for standing in among]
    assert sum(counts) == runs
    assert max(counts) - min(counts) <= 1


def test_a_large_base_model_is_not_loaded_twice_where_one_has_it() -> None:
    holder = Standing("holder", memory=100, used=60, bases={BASES[0]: 50}, runs=9)
    idle = Standing("idle", memory=100)
    assert chosen([holder, idle], Need(BASES[0], 50)) is holder
    assert chosen([holder, idle], Need(BASES[0], 20)) is idle
    assert chosen([holder, idle], Need(BASES[0])) is holder


def test_a_base_model_goes_where_it_fits_and_then_where_most_is_free() -> None:
    small, large = Standing("small", memory=100), Standing("large", memory=400, used=100, runs=3)
    assert chosen([small, large], Need(BASES[0], 95)) is large
    assert chosen([small, large], Need(BASES[0], 60)) is large
    assert chosen([small, Standing("large", memory=400, used=390)], Need(BASES[0], 60)) is small


def test_what_was_granted_takes_memory_before_it_shows() -> None:
    one, other = Standing("one", memory=100), Standing("other", memory=100)
    grants = Counter({Grant("one", Need(BASES[1], 60)): 1})
    assert choose([one, other], Need(BASES[0], 60), grants) == "other"
    assert choose([one, other], Need(BASES[1], 60), grants) == "one"


def test_trainers_that_just_start_share_the_runs() -> None:
    assert choose([Standing("one"), Standing("other")], NEED, Counter({Grant("one", NEED): 1})) == "other"
