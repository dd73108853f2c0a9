"""What may be completed: texts, conversations, token ids; one of them, or a list of one kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, TypeAlias

from tg_tinker.errors import InvalidRequestError

Message: TypeAlias = Mapping[str, str]
"""One turn: ``role`` and ``content``."""
Prompts: TypeAlias = (
    str | Sequence[str] | Sequence[Message] | Sequence[Sequence[Message]] | Sequence[int] | Sequence[Sequence[int]]
)


def plain_prompts(prompts: Prompts) -> dict[str, list[Any]]:
    """The prompts under the name of their kind: ``prompts`` (texts), ``messages`` (conversations) or ``tokens``.

    A conversation is a list of messages, token ids are a list of whole numbers: such a list alone is one prompt.

    Raises:
        InvalidRequestError: they are none of these, or one of them is empty.
    """
    if isinstance(prompts, str):
        return plain_prompts([prompts])
    listed: list[Any] = list(prompts)
    if listed and (isinstance(listed[0], Mapping) or _is_number(listed[0])):
        listed = [listed]
    if listed and all(map(_is_text, listed)):
        return {"prompts": listed}
    rows = [list(each) for each in listed if isinstance(each, Sequence) and not isinstance(each, str | bytes)]
    if rows and len(rows) == len(listed) and all(rows):
        if all(_is_message(message) for row in rows for message in row):
            return {"messages": [[dict(message) for message in row] for row in rows]}
        if all(_is_number(token) for row in rows for token in row):
            return {"tokens": [[int(token) for token in row] for row in rows]}
    raise InvalidRequestError(
        "Prompts are texts, conversations of messages with role and content, or token ids; none of them empty."
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: object) -> bool:
    """Whether this is a whole number, one of numpy's or torch's too, and no truth value."""
    try:
        return index(value) >= 0 and not isinstance(value, bool)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        return False


def _is_message(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and value.keys() == {"role", "content"}
        and all(isinstance(text, str) for text in value.values())
    )
