"""Several short examples in one row, so that fewer tokens are padding. Off unless it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from tg_tinker.data.examples import IGNORED, Example
from tg_tinker.data.stream import Stream


def packed(examples: Stream[Example], max_length: int) -> Stream[Example]:
    """Examples in their order, as many behind one another as fit into ``max_length`` tokens.

    No token is learnt from the example before its own; but the model does see it, so a packed row gives other losses
    than its examples in rows of their own.
    """

    def rows() -> Iterator[Example]:
        held: list[Example] = []
        size = 0
        for example in examples:
            if held and size + len(example) > max_length:
                yield _joined(held)
                held, size = [], 0
            held.append(example)
            size += len(example)
        if held:
            yield _joined(held)

    return Stream(rows)


def _joined(parts: list[Example]) -> Example:
    if len(parts) == 1:
        return parts[0]
    ids = [token for part in parts for token in part.input_ids]
    labels = [label for part in parts for label in (IGNORED, *part.labels[1:])]
    if all(part.weights is None for part in parts):
        return Example(ids, labels)
    return Example(ids, labels, [weight for part in parts for weight in part.weights or [1.0] * len(part)])
