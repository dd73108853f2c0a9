"""What is asked of a generator, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

END, LENGTH, STOP_STRING, STOP_TOKEN = "stop", "length", "stop_string", "stop_token"
"""Why a completion ended: the model ended it, it has all its tokens, or it came upon what the caller named."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn, applied in this order; what is off by default leaves the model's distribution alone.

    ``repetition_penalty`` (1: off) weakens tokens of prompt and completion; ``temperature`` 0 takes the likeliest
    token; ``top_k`` (0: off) keeps the likeliest tokens, ``top_p`` (1: off) the smallest likeliest set of that mass,
    ``min_p`` (0: off) those of at least that share of the likeliest one's probability. ``stop`` are texts and
    ``stop_tokens`` token ids that end a completion and are not part of its text.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    completions: int = 1
    logprobs: bool = False
    stop: tuple[str, ...] = ()
    stop_tokens: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Completion:
    """One continuation of one prompt, both counted from 0.

    ``tokens`` are all that were generated, the ending ones included; ``logprobs`` their natural logarithms under the
    model's own distribution, before penalty, temperature and cuts (None unless asked for).
    """

    prompt_index: int
    completion_index: int
    text: str = field(repr=False)
    tokens: tuple[int, ...] = field(repr=False)
    finish_reason: str
    logprobs: tuple[float, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Delta:
    """What a completion grew by; ``finish_reason`` comes with its last one."""

    prompt_index: int
    completion_index: int
    text: str = field(repr=False)
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class SampleJob:
    """Prompts to be completed by one adapter (None: the bare base model); ``on_tokens`` hears of every new text.

    ``owner`` is the tenant and the run that take turns with others.
    """

    operation_id: bytes
    adapter: str | None
    prompts: Sequence[Sequence[int]] = field(repr=False)
    sampling: Sampling = field(repr=False)
    on_tokens: Callable[[Sequence[Delta]], None] | None = field(default=None, repr=False)
    owner: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that has ended: with its completions in the order of prompts, or with an error."""

    operation_id: bytes
    completions: tuple[Completion, ...] = field(default=(), repr=False)
    error: Exception | None = None

    @property
    def tokens(self) -> int:
        """How many tokens were generated."""
        return sum(len(completion.tokens) for completion in self.completions)
