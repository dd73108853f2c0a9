"""Which part of a rendered conversation the assistant wrote, when the template does not say so itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tg_tinker.errors import ChatTemplateError

Render = Callable[[Sequence[Mapping[str, Any]], bool], str]
"""The text of messages; with the header of an answer at its end, if the second argument says so."""


@dataclass(frozen=True)
class Turn:
    """Characters [start, end) of a text; ``open`` if the token that ends the turn is still to be added."""

    start: int
    end: int
    open: bool = False


def find_turns(messages: Sequence[Mapping[str, Any]], text: str, render: Render) -> list[Turn]:
    """The assistant's turns in the text of a whole conversation.

    Raises:
        ChatTemplateError: it cannot be told where an answer begins or ends.
    """
    answers = [number for number, message in enumerate(messages) if message.get("role") == "assistant"]
    return [_turn(messages, number, text, render) for number in answers]


def _turn(messages: Sequence[Mapping[str, Any]], number: int, text: str, render: Render) -> Turn:
    content = str(messages[number].get("content") or "").strip()
    start = _start(messages[:number], content, text, render)
    through = render(messages[: number + 1], False)
    if text.startswith(through):
        return Turn(start, len(through))
    # Some templates write earlier answers otherwise than the last one (without their reasoning, say).
    at = text.find(content, start)
    if not content or at < 0:
        raise ChatTemplateError("The model's chat template does not show where an answer of the assistant ends.")
    return Turn(start, at + len(content), open=True)


def _start(before: Sequence[Mapping[str, Any]], content: str, text: str, render: Render) -> int:
    """Where an answer begins: behind the header that a generation prompt is, or else where its content does."""
    if before and text.startswith(header := render(before, True)):
        return len(header)
    unprompted = render(before, False) if before else ""
    at = text.find(content, len(unprompted))
    if not content or at < 0 or not text.startswith(unprompted):
        raise ChatTemplateError("The model's chat template does not show where an answer of the assistant begins.")
    return at


def tokens_of(turn: Turn, offsets: Sequence[tuple[int, int]], special: Sequence[bool]) -> Iterator[int]:
    """The tokens that lie in a turn; of an open one also the special token right behind it.

    Args:
        turn: where it is in the text.
        offsets: of each token the characters [start, end) that it stands for.
        special: of each token whether it is a special one.
    """
    last = -1
    for index, (start, end) in enumerate(offsets):
        if start < turn.end and end > turn.start:
            last = index
            yield index
    if turn.open and 0 <= last < len(special) - 1 and special[last + 1]:
        yield last + 1
