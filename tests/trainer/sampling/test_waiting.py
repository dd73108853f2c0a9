"""Whose rows are generated next: tenants, their runs and their jobs take turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from processors.trainer.sampling import SampleJob, Sampling
from processors.trainer.sampling.waiting import Waiting


@dataclass
class Row:
    """What waiting knows of a row."""

    job: SampleJob


def rows(tenant: str, run: str, name: str, count: int = 1) -> Any:
    job = SampleJob(name.encode(), None, [[1]], Sampling(1), owner=(tenant, run))
    return [Row(job) for _ in range(count)]


def served(waiting: Waiting, count: int | None = None) -> list[str]:
    names = []
    while waiting and (count is None or len(names) < count):
        expected = waiting.first
        row = waiting.take()
        assert row is expected
        names.append(row.job.operation_id.decode())
    return names


def test_a_tenant_with_many_runs_and_jobs_has_no_more_turns_than_one_with_a_single_job() -> None:
    waiting = Waiting()
    for run in "xyz":
        for job in range(3):
            waiting.add(rows("busy", run, f"{run}{job}"))
    waiting.add(rows("quiet", "q", "q", count=4))
    assert [name[0] == "q" for name in served(waiting, 8)] == [False, True] * 4


def test_runs_of_a_tenant_take_turns_and_so_do_jobs_of_a_run() -> None:
    waiting = Waiting()
    for run, job, count in [("x", "x0", 2), ("x", "x1", 2), ("y", "y0", 4)]:
        waiting.add(rows("acme", run, job, count))
    assert served(waiting) == ["x0", "y0", "x1", "y0", "x0", "y0", "x1", "y0"]


def test_who_sends_one_job_after_another_does_not_overtake_those_who_wait() -> None:
    waiting = Waiting()
    waiting.add(rows("patient", "p", "p", count=3))
    order = []
    for number in range(3):
        waiting.add(rows("eager", "e", f"e{number}"))
        order += served(waiting, 2)
    assert order == ["p", "e0", "p", "e1", "p", "e2"]


def test_rows_of_a_dropped_job_wait_no_longer() -> None:
    waiting = Waiting()
    waiting.add(rows("acme", "x", "x0", count=2))
    waiting.add(rows("acme", "x", "x1"))
    waiting.drop(b"x0")
    waiting.drop(b"unknown")
    assert served(waiting) == ["x1"]
    assert not waiting


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.integers(1, 4)), max_size=12))
def test_every_row_has_its_turn_once_and_tenants_who_wait_differ_by_one(jobs: list[tuple[str, str, int]]) -> None:
    waiting = Waiting()
    total = {"a": 0, "b": 0}
    for number, (tenant, run, count) in enumerate(jobs):
        waiting.add(rows(tenant, run, f"{tenant}{number}", count))
        total[tenant] += count
    names = served(waiting)
    assert {tenant: sum(name[0] == tenant for name in names) for tenant in "ab"} == total
    for end in range(2 * min(total.values()) + 1):
        assert abs(sum(name[0] == "a" for name in names[:end]) - sum(name[0] == "b" for name in names[:end])) <= 1
