"""Records as examples: token ids, and which of them are to be learnt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tg_tinker.data.readers import Record
from tg_tinker.data.stream import Stream
from tg_tinker.errors import (
    ChatTemplateError,
    ConfigurationError,
    MalformedChatError,
    MissingFieldError,
)
from tg_tinker.tokenizer import Tokenizer

IGNORED = -100
"""The label of a token that is not to be learnt."""
Overflow = Literal["truncate", "chunk"]


@dataclass(frozen=True, slots=True)
class Example:
    """A sequence: ``input_ids``, ``labels`` (-100: not to be learnt), and the labels' ``weights``, if they have any."""

    input_ids: Sequence[int] = field(repr=False)
    labels: Sequence[int] = field(repr=False)
    weights: Sequence[float] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def teaches(self) -> bool:
        """Whether a label counts: it is not -100, weighs something, and has a token before it to be told from."""
        weights = self.weights or [1.0] * len(self.labels)
        return any(label != IGNORED and weight for label, weight in zip(self.labels[1:], weights[1:], strict=True))


def text_examples(
    records: Stream[Record],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    text: str = "text",
    weight: str | None = None,
    overflow: Overflow = "chunk",
) -> Stream[Example]:
    """Texts, to be learnt whole; the model's token for the end stands at the end of each.

    Args:
        records: texts (:func:`read_text`), or objects with the field ``text``.
        tokenizer: of the model that is trained.
        max_length: tokens of an example at most.
        text: the name of the field.
        weight: the name of a field with the record's weight in the loss.
        overflow: what becomes of a longer text: ``chunk`` makes several examples of it, ``truncate`` drops its end.

    Raises (when it is gone through):
        MissingFieldError: a record lacks the field, or holds no text in it.
    """

    def learnt(record: Record) -> tuple[list[int], list[int]]:
        ids = _ended(tokenizer.encode(_text(record, text)), tokenizer)
        return ids, ids

    return _examples(records, learnt, max_length, weight, overflow)


def pair_examples(
    records: Stream[Record],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    prompt: str = "prompt",
    completion: str = "completion",
    weight: str | None = None,
    overflow: Overflow = "truncate",
) -> Stream[Example]:
    """Prompts with completions, of which the completions alone are to be learnt; all else as :func:`text_examples`."""

    def learnt(record: Record) -> tuple[list[int], list[int]]:
        asked = tokenizer.encode(_text(record, prompt))
        asked = asked[:-1] if asked and asked[-1] == tokenizer.eos_id else asked
        answered = _ended(tokenizer.encode(_text(record, completion), add_special_tokens=False), tokenizer)
        return asked + answered, [IGNORED] * len(asked) + answered

    return _examples(records, learnt, max_length, weight, overflow)


def chat_examples(
    records: Stream[Record],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    messages: str = "messages",
    weight: str | None = None,
    overflow: Overflow = "truncate",
    variables: Mapping[str, Any] | None = None,
) -> Stream[Example]:
    """Conversations by the model's chat template, of which the assistant's turns alone are to be learnt.

    Args:
        records: objects with the field ``messages``, a list of objects with ``role`` and ``content``.
        tokenizer: of the model that is trained.
        max_length: tokens of an example at most.
        messages: the name of the field.
        weight: the name of a field with the record's weight in the loss.
        overflow: as for :func:`text_examples`.
        variables: what else this model's template reads.

    Raises:
        ChatTemplateError: the model has no chat template.
        MalformedChatError: when it is gone through: a record is no conversation, or the template refuses it.
    """
    if not tokenizer.has_chat_template:
        raise ChatTemplateError("The model has no chat template.")

    def learnt(record: Record) -> tuple[list[int], list[int]]:
        try:
            tokens = tokenizer.chat_tokens(_conversation(record, messages), **(variables or {}))
        except ChatTemplateError as error:
            raise MalformedChatError(error.detail, path=record.path, line=record.line) from None
        labels = [token if ours else IGNORED for token, ours in zip(tokens.ids, tokens.assistant, strict=True)]
        return tokens.ids, labels

    return _examples(records, learnt, max_length, weight, overflow)


def _examples(
    records: Stream[Record],
    learnt: Callable[[Record], tuple[list[int], list[int]]],
    max_length: int,
    weight: str | None,
    overflow: Overflow,
) -> Stream[Example]:
    if max_length < 2:  # noqa: PLR2004 -- a label needs a token before it
        raise ConfigurationError("Examples of fewer than two tokens teach nothing.", next_step="Raise max_length.")

    def made() -> Iterator[Example]:
        for record in records:
            ids, labels = learnt(record)
            weights = None if weight is None else [_weight(record, weight)] * len(ids)
            yield from _cut(Example(ids, labels, weights), max_length, overflow)

    return Stream(made)


def _cut(example: Example, max_length: int, overflow: Overflow) -> Iterator[Example]:
    """The parts of an example that fit and teach something; a server refuses rows that teach nothing."""
    last = len(example) if overflow == "chunk" else min(len(example), max_length)
    for start in range(0, last, max_length):
        part = slice(start, start + max_length)
        weights = None if example.weights is None else example.weights[part]
        piece = Example(example.input_ids[part], example.labels[part], weights)
        if piece.teaches:
            yield piece


def _ended(ids: list[int], tokenizer: Tokenizer) -> list[int]:
    end = tokenizer.eos_id
    return ids if end is None or ids[-1:] == [end] else [*ids, end]


def _text(record: Record, name: str) -> str:
    value = record.value if isinstance(record.value, str) else record.value.get(name)
    if not isinstance(value, str):
        raise MissingFieldError(f"There is no text in the field {name!r}.", path=record.path, line=record.line)
    if not _is_unicode(value):
        raise MissingFieldError(f"The field {name!r} holds half a character.", path=record.path, line=record.line)
    return value


def _weight(record: Record, name: str) -> float:
    value = None if isinstance(record.value, str) else record.value.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise MissingFieldError(
            f"There is no weight, a number from 0 on, in the field {name!r}.", path=record.path, line=record.line
        )
    return float(value)


def _conversation(record: Record, name: str) -> list[dict[str, Any]]:
    found = None if isinstance(record.value, str) else record.value.get(name)
    if not isinstance(found, list) or not found or not all(map(_is_message, found)):
        raise MalformedChatError(
            f"The field {name!r} holds no list of objects with role and content.", path=record.path, line=record.line
        )
    if all(message["role"] != "assistant" for message in found):
        raise MalformedChatError("The assistant says nothing.", path=record.path, line=record.line)
    return found


def _is_message(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        return False
    content = value.get("content")
    return _is_unicode(content) if isinstance(content, str) else content is None or isinstance(content, list)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
