"""From a submitted sample and its private input to a job, and from its completions to what the caller gets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tensorguard.commitment import canonical

from processors.trainer.errors import OperationFailedError
from processors.trainer.sampling.jobs import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from processors.trainer.base_model import SharedBase
    from processors.trainer.sampling.jobs import Completion, Delta
    from schemas.events import SampleSubmitted


@dataclass(frozen=True, slots=True)
class SampleInput:
    """What of a sample is private: texts, conversations or token ids, and what ends a completion."""

    prompts: Sequence[str] | None = field(default=None, repr=False)
    messages: Sequence[Sequence[Mapping[str, str]]] | None = field(default=None, repr=False)
    tokens: Sequence[Sequence[int]] | None = field(default=None, repr=False)
    stop: Sequence[str] = field(default=(), repr=False)
    stop_tokens: Sequence[int] = field(default=(), repr=False)

    @classmethod
    def parse(cls, data: bytes) -> SampleInput:
        """An input from its canonical bytes.

        Raises:
            OperationFailedError: the bytes are no input of a sample.
        """
        try:
            found = cls(**json.loads(data))
        except (ValueError, TypeError) as error:
            raise OperationFailedError("The input is no sample's.") from error
        if sum(each is not None for each in (found.prompts, found.messages, found.tokens)) != 1:
            raise OperationFailedError("The input holds not one of prompts, messages and tokens.")
        return found

    def encoded(self, base: SharedBase) -> list[list[int]]:
        """The prompts as the model's token ids.

        Raises:
            ChatTemplateError: the model's template does not take the messages.
        """
        if self.prompts is not None:
            return [base.encode(prompt) for prompt in self.prompts]
        if self.messages is not None:
            return [base.encode_chat(messages) for messages in self.messages]
        return [list(tokens) for tokens in self.tokens or ()]

    def sampling(self, event: SampleSubmitted, seed: int) -> Sampling:
        """How the tokens are to be drawn; ``seed`` is the one to use, whoever chose it."""
        return Sampling(
            max_tokens=event.max_tokens,
            temperature=event.temperature,
            top_p=event.top_p,
            seed=seed,
            top_k=event.top_k,
            min_p=event.min_p,
            repetition_penalty=event.repetition_penalty,
            completions=event.completions,
            logprobs=event.logprobs,
            stop=tuple(self.stop),
            stop_tokens=frozenset(self.stop_tokens),
        )

    def samples(self, completions: Iterable[Completion]) -> list[dict[str, Any]]:
        """Completions as results and commitments write them."""
        return [_sample(completion, self.prompts) for completion in completions]


def _sample(completion: Completion, prompts: Sequence[str] | None) -> dict[str, Any]:
    return {
        "prompt_index": completion.prompt_index,
        "completion_index": completion.completion_index,
        "prompt": prompts[completion.prompt_index] if prompts is not None else None,
        "completion": completion.text,
        "token_ids": list(completion.tokens),
        "logprobs": None if completion.logprobs is None else list(completion.logprobs),
        "tokens_generated": len(completion.tokens),
        "finish_reason": completion.finish_reason,
    }


def frame(deltas: Sequence[Delta]) -> bytes:
    """What samples grew by, as it travels to those who listen: a JSON list."""
    return canonical(
        [
            {
                "prompt_index": delta.prompt_index,
                "completion_index": delta.completion_index,
                "text": delta.text,
                "finish_reason": delta.finish_reason,
            }
            for delta in deltas
        ]
    )
