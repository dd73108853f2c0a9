"""The generator of one base model: takes jobs, works in slices, gives back what has finished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.trainer.errors import SequenceTooLongError, TokenOutOfVocabularyError
from processors.trainer.sampling.groups import Group, Limits
from processors.trainer.sampling.jobs import Finished
from processors.trainer.sampling.rows import rows_of

if TYPE_CHECKING:
    from processors.trainer.base_model import SharedBase
    from processors.trainer.sampling.batch import Failures
    from processors.trainer.sampling.jobs import Completion, SampleJob
    from processors.trainer.sampling.rows import Row


class Generator:
    """Generates the completions of many jobs together.

    Jobs join and leave at any token. Rows of plain LoRA adapters and of the bare base model share their passes; each
    adapter that peft cannot mix (biases of its own, DoRA, a whole model) makes a group of its own, and the groups take
    turns. An adapter must not change while a job of its is open.
    """

    def __init__(self, base: SharedBase, limits: Limits | None = None) -> None:
        self._base = base
        self._limits = limits or Limits()
        self._groups: dict[str | None, Group] = {}
        self._next: Group | None = None
        self._rows: dict[bytes, list[Row]] = {}

    @property
    def busy(self) -> bool:
        """Whether there is anything to generate."""
        return bool(self._rows)

    def submit(self, job: SampleJob) -> None:
        """Take a job; its completions come from :meth:`advance`.

        Raises:
            SequenceTooLongError: a prompt leaves no position for a token.
            TokenOutOfVocabularyError: a prompt holds a token that the model does not have.
        """
        self._check(job)
        base = self._base
        rows = rows_of(job, positions=base.max_positions, ends=base.end_tokens, decode=base.decode)
        own = None if job.adapter is None or base.mixes(job.adapter) else job.adapter
        self._rows[job.operation_id] = rows
        self._groups.setdefault(own, Group(base, own, self._limits)).add(rows)

    def _check(self, job: SampleJob) -> None:
        positions, vocabulary = self._base.max_positions, self._base.vocabulary
        for prompt in job.prompts:
            if not 0 < len(prompt) < positions:
                raise SequenceTooLongError(f"A prompt fills all of the model's {positions} positions.")
            if min(prompt) < 0 or max(prompt) >= vocabulary:
                raise TokenOutOfVocabularyError(f"A token of a prompt is outside of the vocabulary of {vocabulary}.")

    def cancel(self, operation_id: bytes) -> bool:
        """Drop a job, wherever it stands; whether it was here. Nothing more is heard of it."""
        known = self._rows.pop(operation_id, None) is not None
        for group in self._groups.values():
            group.drop(operation_id)
        self._forget_idle()
        return known

    def advance(self, tokens: int) -> list[Finished]:
        """Work until about so many tokens went through the model, or nothing is left; the jobs that ended.

        At least one pass is made for the group whose turn it is. Whatever goes wrong in a pass ends the jobs of its
        group, and no others.
        """
        finished: list[Finished] = []
        while tokens > 0 and self._groups:
            own = next(iter(self._groups))
            group = self._groups.pop(own)
            taken, done = self._step(group)
            tokens -= max(1, taken)
            finished += done
            if group.busy:
                self._groups[own] = group  # at the end: the others come first
        return finished

    def _step(self, group: Group) -> tuple[int, list[Finished]]:
        try:
            taken, ended, failures = self._pass(group)
        except Exception as error:  # noqa: BLE001 -- a pass that fails takes its group along, never the process
            return 1, self._failed(group, [(job, error) for job in group.jobs()])
        return taken, [*self._failed(group, failures), *self._completed(ended)]

    def _pass(self, group: Group) -> tuple[int, list[Row], Failures]:
        """A pass of a group; while one that holds no memory waits for what others hold, none of these takes more."""
        if self._next is None or not self._next.starved:
            self._next = group
        admits = self._next is group
        return group.step(sum(other.held_bytes for other in self._groups.values()), admits=admits)

    def _failed(self, group: Group, failures: Failures) -> list[Finished]:
        for job, _ in failures:
            group.drop(job.operation_id)
        return [
            Finished(job.operation_id, error=error) for job, error in failures if self._rows.pop(job.operation_id, 0)
        ]

    def _completed(self, ended: list[Row]) -> list[Finished]:
        touched = dict.fromkeys(row.job.operation_id for row in ended)
        whole = [
            each
            for each in touched
            if all(row.finish_reason for row in self._rows.get(each, [])) and each in self._rows
        ]
        return [Finished(each, tuple(row.completion() for row in self._rows.pop(each))) for each in whole]

    def _forget_idle(self) -> None:
        self._groups = {own: group for own, group in self._groups.items() if group.busy}


def complete(base: SharedBase, job: SampleJob) -> tuple[Completion, ...]:
    """The completions of one job, generated alone.

    Raises:
        Exception: whatever ended it instead.
    """
    generator = Generator(base)
    generator.submit(job)
    while True:
        for finished in generator.advance(job.sampling.max_tokens):
            if finished.error is not None:
                raise finished.error
            return finished.completions
