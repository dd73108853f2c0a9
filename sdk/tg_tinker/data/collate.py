"""Examples as batches: rows of one length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tg_tinker.data.examples import IGNORED, Example
from tg_tinker.data.stream import Stream
from tg_tinker.errors import ConfigurationError, EmptyDataError

TokenBatch: TypeAlias = dict[str, list[list[Any]]]
"""What ``TrainingClient.forward_backward`` takes: ``input_ids``, ``attention_mask``, ``labels``, maybe ``weights``."""
Collate: TypeAlias = Callable[[Sequence[Example]], TokenBatch]


@dataclass(frozen=True)
class Collator:
    """Fills rows up to the length of the longest, rounded up to a multiple; what is filled in is not attended to.

    ``side`` is where the filling goes. None of it changes a loss.
    """

    pad_id: int
    multiple_of: int = 1
    side: Literal["right", "left"] = "right"

    def __call__(self, examples: Sequence[Example]) -> TokenBatch:
        """One batch of these examples."""
        width = -(-max(map(len, examples)) // self.multiple_of) * self.multiple_of
        batch = {
            "input_ids": [self._filled(each.input_ids, self.pad_id, width) for each in examples],
            "attention_mask": [self._filled([1] * len(each), 0, width) for each in examples],
            "labels": [self._filled(each.labels, IGNORED, width) for each in examples],
        }
        if any(each.weights is not None for each in examples):
            batch["weights"] = [self._filled(each.weights or [1.0] * len(each), 0.0, width) for each in examples]
        return batch

    def _filled(self, row: Sequence[Any], filling: Any, width: int) -> list[Any]:
        padding = [filling] * (width - len(row))
        return [*row, *padding] if self.side == "right" else [*padding, *row]


def batches(
    examples: Stream[Example],
    rows: int,
    collate: Collate,
    *,
    most_tokens: int | None = None,
    drop_last: bool = False,
) -> Stream[TokenBatch]:
    """Batches of ``rows`` examples; the last may have fewer, unless ``drop_last`` leaves it out.

    Args:
        examples: in the order in which they are to be used.
        rows: of a batch at most.
        collate: makes a batch of examples; a :class:`Collator`.
        most_tokens: of a batch with its filling, about: a batch gets fewer rows where they are long.
        drop_last: whether only whole batches come.

    Raises:
        ConfigurationError: no rows are asked for.
        EmptyDataError: when it is gone through: there is no example at all.
    """
    if rows < 1:
        raise ConfigurationError("A batch has at least one row.", next_step="Give rows as 1 or more.")

    def made() -> Iterator[TokenBatch]:
        anything = False
        for group in _groups(examples, rows, most_tokens, drop_last=drop_last):
            anything = True
            yield collate(group)
        if not anything:
            raise EmptyDataError("There is no batch to train on.")

    known = examples.length if most_tokens is None else None
    return Stream(made, None if known is None else known // rows if drop_last else -(-known // rows))


def _groups(
    examples: Stream[Example], rows: int, most_tokens: int | None, *, drop_last: bool
) -> Iterator[list[Example]]:
    held: list[Example] = []
    longest = 0
    for example in examples:
        longest = max(longest, len(example))
        full = len(held) == rows or (most_tokens is not None and longest * (len(held) + 1) > most_tokens)
        if held and full:
            yield held
            held, longest = [], len(example)
        held.append(example)
    if held and not (drop_last and len(held) < rows):
        yield held
