"""Inputs that the trainer's tests share."""

from __future__ import annotations

import random

from tensorguard.commitment import canonical

from processors.trainer.batch import Row, parse_batch
from tests.support.tiny_model import VOCABULARY


def random_rows(seed: int, lengths: tuple[int, ...] = (9, 5, 12)) -> list[Row]:
    rng = random.Random(seed)
    rows = [tuple(rng.randrange(1, VOCABULARY) for _ in range(length)) for length in lengths]
    return [Row(row, row) for row in rows]


def padded(rows: list[Row], side: str, width: int, pad: int = 0) -> list[Row]:
    """The rows after a way through a batch that pads them, with labels on the padding too."""

    def fill(tokens: tuple[int, ...], value: int) -> list[int]:
        gap = [value] * (width - len(tokens))
        return gap + list(tokens) if side == "left" else list(tokens) + gap

    batch = {
        "input_ids": [fill(row.tokens, pad) for row in rows],
        "attention_mask": [fill((1,) * len(row.tokens), 0) for row in rows],
        "labels": [fill(row.labels, pad) for row in rows],
    }
    return parse_batch(canonical(batch))
