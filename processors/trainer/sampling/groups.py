"""The rows of one group: those that wait, those whose prompts are being read, those that are being generated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from processors.trainer.sampling.batch import Batch, Prefill, next_tokens
from processors.trainer.sampling.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from processors.trainer.base_model import SharedBase
    from processors.trainer.sampling.batch import Failures
    from processors.trainer.sampling.jobs import SampleJob
    from processors.trainer.sampling.rows import Row


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is generated together.

    Rows, and tokens of prompts that one pass reads, are those of a group; bytes of keys and values those of all groups
    of a generator.
    """

    rows: int = 64
    cache_bytes: int = 4 << 30
    pass_tokens: int = 2048


class Group:
    """Rows that share passes. Tenants, runs and jobs take turns at being admitted: none waits for all of another."""

    def __init__(self, base: SharedBase, own: str | None, limits: Limits) -> None:
        self._device = base.device
        self._cell_bytes = base.cell_bytes
        self._limits = limits
        self._waiting = Waiting()
        self._prefill: Prefill | None = None
        self._batch = Batch(base, own)

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._waiting or self._prefill or self._batch.rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Let the rows of a job wait for their turn."""
        self._waiting.add(rows)

    def jobs(self) -> list[SampleJob]:
        """All jobs that have rows here."""
        rows = [*self._waiting, *(self._prefill.rows if self._prefill else ()), *self._batch.rows]
        return _jobs_of(rows)

    def drop(self, operation_id: bytes) -> None:
        """Forget the rows of a job."""
        self._waiting.drop(operation_id)
        if self._prefill is not None:
            self._prefill.rows = [row for row in self._prefill.rows if row.job.operation_id != operation_id]
            self._prefill = self._prefill if self._prefill.rows else None
        self._batch.keep([row.job.operation_id != operation_id for row in self._batch.rows])

    @property
    def held_bytes(self) -> int:
        """What the keys and values of the rows that are being generated take in the end."""
        return self._bytes([*self._batch.rows, *(self._prefill.rows if self._prefill else ())])

    @property
    def starved(self) -> bool:
        """Whether rows wait and none is being generated."""
        return bool(self._waiting) and not self._batch.rows and self._prefill is None

    def step(self, elsewhere: int = 0, *, admits: bool = True) -> tuple[int, list[Row], Failures]:
        """One pass over new prompts, if there are any, and one over the open rows.

        How many tokens the passes took in, the rows that ended, and the jobs that failed. ``elsewhere`` are the bytes
        that other groups hold; ``admits`` is whether rows that wait may take more.
        """
        if self._prefill is None and admits and (failures := self._begin_reading(elsewhere)):
            return 0, [], failures
        taken, ended, failures = self._read() if self._prefill is not None else (0, [], [])
        if self._batch.rows:
            taken += len(self._batch.rows)
            more = next_tokens(self._batch.rows, self._batch.decode())
            ended += self._parted(more)
            failures += more
        return taken, ended, failures

    def _begin_reading(self, elsewhere: int) -> Failures:
        """Take as many rows that wait as there is room for; the jobs that failed for it."""
        rows: list[Row] = []
        while self._waiting and self._fits([*rows, self._waiting.first], elsewhere):
            rows.append(self._waiting.take())
        try:
            self._prefill = Prefill(rows, self._device) if rows else None
        except Exception as error:  # noqa: BLE001 -- an accelerator's memory may be full
            return [(job, error) for job in _jobs_of(rows)]
        return []

    def _read(self) -> tuple[int, list[Row], Failures]:
        """Read some of the new prompts; once all is read, their rows have their first tokens and take part."""
        prefill = self._prefill
        assert prefill is not None, "only what is being read can be read on"  # noqa: S101 -- the caller asked
        prompts = len(prefill.adapters)
        columns = max(1, self._limits.pass_tokens // prompts)
        try:
            logits_RV = self._batch.read(prefill, columns)
        except Exception as error:  # noqa: BLE001 -- the open rows have caches of their own, and go on
            self._prefill = None
            return prompts, [], [(job, error) for job in _jobs_of(prefill.rows)]
        if logits_RV is None:
            return prompts * columns, [], []
        self._prefill = None
        self._batch.admit(prefill)
        failures = next_tokens(prefill.rows, logits_RV)
        return prompts * min(columns, prefill.columns), self._parted(failures), failures

    def _parted(self, failures: Failures) -> list[Row]:
        """Let the rows go that have ended, and those of jobs that failed; the former."""
        failed = {job.operation_id for job, _ in failures}
        ended = [row for row in self._batch.rows if row.finish_reason and row.job.operation_id not in failed]
        self._batch.keep([not row.finish_reason and row.job.operation_id not in failed for row in self._batch.rows])
        return ended

    def _fits(self, new: Sequence[Row], elsewhere: int) -> bool:
        """Whether there is room for new rows until the longest of all has all its tokens; for one alone there is."""
        rows = [*self._batch.rows, *new]
        alone = len(rows) == 1 and not elsewhere
        size = self._bytes(rows) + elsewhere
        return alone or (len(rows) <= self._limits.rows and size <= self._limits.cache_bytes)

    def _bytes(self, rows: Sequence[Row]) -> int:
        return len(rows) * max((row.reach for row in rows), default=0) * self._cell_bytes


def _jobs_of(rows: Sequence[Row]) -> list[SampleJob]:
    return list({row.job.operation_id: row.job for row in rows}.values())
