"""Learning rates as pure functions of the step: ``run.optim_step(learning_rate=schedule(step))``, steps counted from 0.

They are those of ``transformers`` (``get_cosine_schedule_with_warmup`` and its kin), but for one thing: a warm-up there
begins with a step at rate 0, which changes nothing; here it begins with the step after that one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from tg_tinker.errors import ConfigurationError

Schedule: TypeAlias = Callable[[int], float]


def constant(peak: float, *, warmup_steps: int = 0) -> Schedule:
    """The same rate at every step, after a linear rise to it over ``warmup_steps``.

    Raises:
        ConfigurationError: ``peak`` is not above 0, or a number of steps is negative.
    """
    _check(peak, 1, warmup_steps, 0.0)
    return lambda step: peak * _rise(step, warmup_steps)


def linear(peak: float, steps: int, *, warmup_steps: int = 0, lowest: float = 0.0) -> Schedule:
    """A rise to ``peak``, then a straight fall that would reach ``lowest`` one step after the last of ``steps``.

    Raises:
        ConfigurationError: as for :func:`constant`; or ``lowest`` lies outside 0 to ``peak``.
    """
    _check(peak, steps, warmup_steps, lowest)
    return _falling(peak, steps, warmup_steps, lowest, lambda progress: 1.0 - progress)


def cosine(peak: float, steps: int, *, warmup_steps: int = 0, lowest: float = 0.0) -> Schedule:
    """A rise to ``peak``, then half a cosine wave that would reach ``lowest`` one step after the last of ``steps``.

    Source: Loshchilov and Hutter, SGDR, arXiv:1608.03983. Errors as for :func:`linear`.
    """
    _check(peak, steps, warmup_steps, lowest)
    return _falling(peak, steps, warmup_steps, lowest, lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)))


def _falling(peak: float, steps: int, warmup: int, lowest: float, shape: Callable[[float], float]) -> Schedule:
    def rate(step: int) -> float:
        if step + 1 < warmup:
            return peak * _rise(step, warmup)
        # With a warm-up the peak is its last step, so that the fall begins one step earlier than it would be counted.
        gone, left = (step + 1 - warmup, steps + 1 - warmup) if warmup else (step, steps)
        return lowest + (peak - lowest) * shape(min(1.0, gone / max(1, left)))

    return rate


def _rise(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def _check(peak: float, steps: int, warmup_steps: int, lowest: float) -> None:
    if not (math.isfinite(peak) and peak > 0 and 0 <= lowest <= peak):
        raise ConfigurationError(
            "A rate is not between 0 and the peak.", next_step="Give 0 <= lowest <= peak, peak > 0."
        )
    if steps < 1 or warmup_steps < 0:
        raise ConfigurationError("A number of steps is too small.", next_step="Give steps >= 1 and warmup_steps >= 0.")
