"""Schedules are transformers', without the empty first step of its warm-ups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tg_tinker import errors, schedules

PEAK, STEPS = 3e-4, 40
Make = Callable[[torch.optim.Optimizer, int, int], Any]


def _theirs(make: Make, warmup: int, lowest: float) -> list[float]:
    """Rates of transformers; with a warm-up, of one step more, the empty one left out."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    steps = STEPS + bool(warmup)
    schedule = make(optimizer, warmup, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [lowest + (PEAK - lowest) * rate / PEAK if rate <= PEAK else rate for rate in rates[bool(warmup) :]]


SHAPES: dict[str, tuple[Callable[[int], schedules.Schedule], Make]] = {
    "constant": (
        lambda warmup: schedules.constant(PEAK, warmup_steps=warmup),
        lambda optimizer, warmup, _steps: transformers.get_constant_schedule_with_warmup(optimizer, warmup),
    ),
    "linear": (
        lambda warmup: schedules.linear(PEAK, STEPS, warmup_steps=warmup),
        transformers.get_linear_schedule_with_warmup,
    ),
    "cosine": (
        lambda warmup: schedules.cosine(PEAK, STEPS, warmup_steps=warmup),
        transformers.get_cosine_schedule_with_warmup,
    ),
    "cosine to a lowest rate": (
        lambda warmup: schedules.cosine(PEAK, STEPS, warmup_steps=warmup, lowest=PEAK / 10),
        lambda optimizer, warmup, steps: transformers.get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, warmup, steps, min_lr_rate=0.1
        ),
    ),
}


@pytest.mark.parametrize("warmup", [0, 1, 7, STEPS])
@pytest.mark.parametrize(("ours", "theirs"), SHAPES.values(), ids=SHAPES)
def test_rates_are_those_of_transformers(ours: Callable[[int], schedules.Schedule], theirs: Make, warmup: int) -> None:
    rates = [ours(warmup)(step) for step in range(STEPS)]
    assert rates == pytest.approx(_theirs(theirs, warmup, 0.0), rel=1e-12)


@given(st.integers(1, 50), st.integers(0, 60), st.floats(0, 1))
def test_no_step_has_a_rate_of_nothing_or_above_the_peak(steps: int, warmup: int, share: float) -> None:
    for schedule in (
        schedules.constant(PEAK, warmup_steps=warmup),
        schedules.linear(PEAK, steps, warmup_steps=warmup, lowest=share * PEAK),
        schedules.cosine(PEAK, steps, warmup_steps=warmup, lowest=share * PEAK),
    ):
        assert all(0 < schedule(step) <= PEAK * (1 + 1e-12) for step in range(steps))


def test_after_the_last_step_the_rate_stays_at_the_lowest() -> None:
    assert schedules.linear(PEAK, 5, lowest=1e-5)(100) == pytest.approx(1e-5)
    assert schedules.cosine(PEAK, 5, lowest=1e-5)(100) == pytest.approx(1e-5)


WRONG: dict[str, Callable[[], object]] = {
    "no peak": lambda: schedules.constant(0.0),
    "a peak that is no number": lambda: schedules.constant(float("nan")),
    "no steps": lambda: schedules.linear(PEAK, 0),
    "a negative warm-up": lambda: schedules.cosine(PEAK, 5, warmup_steps=-1),
    "a lowest rate above the peak": lambda: schedules.cosine(PEAK, 5, lowest=1.0),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_what_is_no_schedule_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        make()
    assert caught.value.next_step
