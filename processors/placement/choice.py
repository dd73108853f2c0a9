"""The choice of a trainer for a run. Pure.

A base model costs memory and time to load, so a run goes where its model is, as long as there is room. One that is
small for a trainer that has nothing to do is worth loading there too: its runs are then worked on side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from processors.placement.standing import Standing

FULL = 0.9
"""A trainer with this share of its memory in use takes no run that another one has room for."""
SMALL = 0.25
"""A base model up to this share of a trainer's memory is loaded there once more rather than shared by all its runs."""
_STEPS = 8


@dataclass(frozen=True, slots=True)
class Need:
    """What a run needs: a base model, by its manifest digest (hex), and the bytes of that; 0 if they are not known."""

    base: str
    size: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """A run that a trainer was given lately: its standing may not show it yet."""

    worker: str
    need: Need


NOTHING: Mapping[Grant, int] = {}


def choose(standings: Sequence[Standing], need: Need, grants: Mapping[Grant, int] = NOTHING) -> str | None:
    """The trainer for a run; None if there is none. ``grants`` counts those of each kind.

    Of those with room the ones that have the model or soon will, or may as well load it; of these the one with the most
    free memory, in eighths of the largest trainer's; of these the one with the fewest runs.
    """
    step = max((standing.memory for standing in standings), default=0) / _STEPS or 1

    def merits(standing: Standing) -> tuple[bool, bool, int, int, str]:
        load = _Load.of(standing, grants)
        near = need.base in load.bases or load.may_as_well_load(need)
        return not load.takes(need), not near, -int(load.free // step), load.runs, standing.worker

    return min(standings, key=merits).worker if standings else None


@dataclass(frozen=True, slots=True)
class _Load:
    """A trainer with what it was given lately: its base models, free bytes and runs."""

    memory: int
    bases: frozenset[str]
    free: int
    runs: int

    @classmethod
    def of(cls, standing: Standing, grants: Mapping[Grant, int]) -> _Load:
        given = {grant.need: count for grant, count in grants.items() if grant.worker == standing.worker}
        coming = {need.base: need.size for need in given if need.base not in standing.bases}
        free = max(0, standing.free - sum(coming.values()))
        return cls(standing.memory, frozenset({*standing.bases, *coming}), free, standing.runs + sum(given.values()))

    def may_as_well_load(self, need: Need) -> bool:
        """Whether a trainer that has nothing to do may have a base model that another one has too."""
        return not self.runs and (not self.memory or 0 < need.size <= SMALL * self.memory)

    def takes(self, need: Need) -> bool:
        """Whether there is room for a run; a trainer that has not said how much memory it has may have some."""
        if not self.memory:
            return True
        left = self.free - (0 if need.base in self.bases else need.size)
        return left > (1 - FULL) * self.memory
