"""One completion while it is being generated."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

from processors.trainer.sampling.jobs import END, LENGTH, STOP_STRING, STOP_TOKEN, Completion, Delta
from processors.trainer.sampling.texts import GrowingText
from processors.trainer.seeds import draw_seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.trainer.sampling.jobs import SampleJob


class Row:
    """A completion of a prompt: its tokens so far, its text, its random numbers, and why it ended if it has."""

    def __init__(
        self,
        job: SampleJob,
        place: tuple[int, int],
        draw: int,
        *,
        room: int,
        ends: frozenset[int],
        decode: Callable[[list[int]], str],
    ) -> None:
        self.job = job
        self.sampling = job.sampling
        self.prompt_index, self.completion_index = place
        self.prompt = job.prompts[self.prompt_index]
        self.generator = torch.Generator().manual_seed(draw_seed(job.sampling.seed, draw))
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.seen = set(self.prompt) if job.sampling.repetition_penalty != 1 else set()
        self.finish_reason: str | None = None
        self._room = min(job.sampling.max_tokens, room)
        self._ends = ends
        self._text = GrowingText(decode, job.sampling.stop)

    @property
    def reach(self) -> int:
        """How many tokens it has at most, its prompt's included."""
        return len(self.prompt) + self._room

    def take(self, token: int, logprob: float | None) -> Delta | None:
        """Take the next token; what it adds to the text, or that it ends it."""
        self.tokens.append(token)
        if logprob is not None:
            self.logprobs.append(logprob)
        if self.sampling.repetition_penalty != 1:
            self.seen.add(token)
        self.finish_reason = self._taken(token)
        ended = self.finish_reason is not None
        if ended:
            self._text.finish()
            if self._text.stopped:
                self.finish_reason = STOP_STRING
        news = self._text.news(last=ended)
        return Delta(self.prompt_index, self.completion_index, news, self.finish_reason) if news or ended else None

    def _taken(self, token: int) -> str | None:
        if token in self.sampling.stop_tokens:
            return STOP_TOKEN
        if token in self._ends:
            return END
        self._text.add(token)
        if self._text.stopped:
            return STOP_STRING
        return LENGTH if len(self.tokens) >= self._room else None

    def completion(self) -> Completion:
        """What came of it."""
        logprobs = tuple(self.logprobs) if self.sampling.logprobs else None
        reason = self.finish_reason or LENGTH
        return Completion(
            self.prompt_index, self.completion_index, self._text.text, tuple(self.tokens), reason, logprobs
        )


def rows_of(job: SampleJob, *, positions: int, ends: frozenset[int], decode: Callable[[list[int]], str]) -> list[Row]:
    """The rows of a job, prompt by prompt.

    Random numbers belong to a seed, and to how often its prompt has been drawn before in this job: so a text depends
    neither on its neighbours nor on its place among them, and a prompt that is given twice gets two texts.
    """
    drawn: Counter[tuple[int, ...]] = Counter()
    rows = []
    for prompt_index, prompt in enumerate(job.prompts):
        for completion_index in range(job.sampling.completions):
            draw = drawn[tuple(prompt)]
            drawn[tuple(prompt)] += 1
            place, room = (prompt_index, completion_index), positions - len(prompt)
            rows.append(Row(job, place, draw, room=room, ends=ends, decode=decode))
    return rows
