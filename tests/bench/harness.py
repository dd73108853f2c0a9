"""Figures as ratios: repetitions of ours and of a named baseline, interleaved, so that noise hits both alike."""

from __future__ import annotations

import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """Repeated measurements of one quantity, in the order they were taken."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, *values: float) -> Spread:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def scaled(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(tuple(value * factor for value in self.values))

    def over(self, other: Spread) -> Spread:
        """Ratio of each repetition to the other's of the same round; of the medians, when the rounds do not pair."""
        if len(self.values) != len(other.values):
            return Spread.of(self.median / other.median)
        return Spread(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))

    def to_dict(self) -> dict[str, Any]:
        return {"median": self.median, "min": self.low, "max": self.high, "repetitions": len(self.values)}


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, what it is compared with, and the bound on the ratio: ``goal`` at most, or ``at_least``."""

    name: str
    unit: str
    value: Spread
    baseline: str | None = None
    baseline_value: Spread | None = None
    goal: float | None = None
    note: str = ""
    at_least: float | None = None

    @property
    def ratio(self) -> Spread | None:
        return self.value.over(self.baseline_value) if self.baseline_value else None

    def to_dict(self) -> dict[str, Any]:
        ratio = self.ratio
        return {
            "name": self.name,
            "unit": self.unit,
            "value": self.value.to_dict(),
            "baseline": {"name": self.baseline, **self.baseline_value.to_dict()} if self.baseline_value else None,
            "ratio": ratio.to_dict() if ratio else None,
            "goal": self.goal,
            "at_least": self.at_least,
            "note": self.note,
        }


def interleave(repetitions: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, Spread]:
    """Measure each contender once per round, the order turned round every time; each returns what it measured."""
    names = list(contenders)
    found: dict[str, list[float]] = {name: [] for name in names}
    for round_number in range(repetitions):
        for name in names if round_number % 2 == 0 else reversed(names):
            found[name].append(contenders[name]())
    return {name: Spread(tuple(values)) for name, values in found.items()}


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_threads(tasks: Sequence[Callable[[], None]]) -> None:
    """Do all of them at once; returns when the last one has ended, and raises what the first one raised."""
    failures: list[BaseException] = []

    def guarded(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def machine(work: Path) -> dict[str, Any]:
    """What the figures were measured on; ``work`` is where the benchmarks write."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "filesystem": _filesystem(work),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _filesystem(work: Path) -> str:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [fields for fields in mounts if work.resolve().is_relative_to(fields[1])]
    return max(holding, key=lambda fields: len(fields[1]))[2] if holding else "unknown"
