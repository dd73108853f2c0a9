"""Fine-tuning through the SDK, as a user writes it: batches in, losses out, a checkpoint at the end.

Rows are packed: (16, 128) token ids, every label counts but the first of each row.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tg_tinker import FutureHandle, LoRAConfig, OptimizerConfig, SamplingConfig, TrainingClient, TrainingConfig
from tg_tinker.types import ForwardBackwardResult, OptimStepResult
from tokenizers import Tokenizer

from api.demo.corpus import docstring_corpus
from api.demo.errors import TextTooShortError

END_OF_TEXT = "<|endoftext|>"
ROWS, WINDOW = 16, 128
HELD_OUT_ROWS = 64
TEXT_BYTES = 800_000
LEARNING_RATE = 5e-3
WARM_UP = 5
IN_FLIGHT = 3
PATIENCE = 120.0

Batch = dict[str, list[list[int]]]
Progress = Callable[[int, float], None]
Pair = tuple[FutureHandle[ForwardBackwardResult], FutureHandle[OptimStepResult]]


@dataclass(frozen=True)
class Dataset:
    """Batches to learn from, and batches of unseen files to measure on."""

    train: tuple[Batch, ...]
    held_out: tuple[Batch, ...]


def training_config(model: str) -> TrainingConfig:
    """A LoRA adapter on all linear layers; without dropout, so that a loss is the same each time it is asked for."""
    modules = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    return TrainingConfig(
        model_ref=model,
        lora_config=LoRAConfig(rank=16, alpha=32.0, dropout=0.0, target_modules=modules),
        optimizer=OptimizerConfig(learning_rate=LEARNING_RATE, weight_decay=0.0),
        batch_size=ROWS,
        seed=11,
        metadata={"made_by": "tensorguard demo"},
    )


def docstring_dataset(base_model: Path, seed: int = 3) -> Dataset:
    """Docstrings of the standard library in the tokens of the base model, the training rows shuffled.

    Raises:
        TextTooShortError: too few docstrings for a batch.
    """
    tokenizer = Tokenizer.from_file(str(base_model / "tokenizer.json"))
    corpus = docstring_corpus(TEXT_BYTES)
    train, held_out = _rows(tokenizer, corpus.train), _rows(tokenizer, corpus.held_out)[:HELD_OUT_ROWS]
    Random(seed).shuffle(train)  # noqa: S311 -- an order, no secret
    if len(train) < ROWS or not held_out:
        raise TextTooShortError("The standard library has too few docstrings here.")
    return Dataset(tuple(_batches(train, whole=True)), tuple(_batches(held_out, whole=False)))


def _rows(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    end = tokenizer.encode(END_OF_TEXT).ids
    ids: list[int] = [token for encoded in tokenizer.encode_batch(list(texts)) for token in (*encoded.ids, *end)]
    return [ids[start : start + WINDOW] for start in range(0, len(ids) - WINDOW + 1, WINDOW)]


def _batches(rows: list[list[int]], *, whole: bool) -> Iterator[Batch]:
    for start in range(0, len(rows) - ROWS + 1 if whole else len(rows), ROWS):
        taken = rows[start : start + ROWS]
        yield {"input_ids": taken, "attention_mask": [[1] * WINDOW] * len(taken), "labels": taken}


def learning_rate(step: int, steps: int) -> float:
    """The rate of a step (from 1) of so many: a short warm-up, then a cosine down to a tenth."""
    return LEARNING_RATE * min(step / WARM_UP, 0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))


def send_step(run: TrainingClient, data: Dataset, step: int, steps: int) -> Pair:
    """Ask for one step of so many; nothing is waited for."""
    forward = run.forward_backward(data.train[(step - 1) % len(data.train)])
    return forward, run.optim_step(learning_rate(step, steps))


def train(run: TrainingClient, data: Dataset, part: range, steps: int, progress: Progress) -> None:
    """Make a part of so many steps, a few always under way, so that the trainer never waits for the network."""
    under_way: deque[Pair] = deque()
    for step in part:
        under_way.append(send_step(run, data, step, steps))
        if len(under_way) >= IN_FLIGHT:
            _finish(under_way.popleft(), progress)
    while under_way:
        _finish(under_way.popleft(), progress)


def _finish(pair: Pair, progress: Progress) -> None:
    forward, optim = pair
    loss = forward.result(PATIENCE).loss
    progress(optim.result(PATIENCE).step, loss)


def held_out_loss(run: TrainingClient, data: Dataset) -> float:
    """The mean loss over the held-out rows; evaluation only, so nothing is learnt from them."""
    handles = [(run.forward(batch), len(batch["input_ids"])) for batch in data.held_out]
    total = sum(handle.result(PATIENCE).loss * rows for handle, rows in handles)
    return total / sum(rows for _, rows in handles)


def completions(run: TrainingClient, prompts: Sequence[str]) -> list[str]:
    """What the run's present adapter makes of the prompts."""
    drawn = SamplingConfig(max_tokens=40, temperature=0.6, top_p=0.9, seed=5)
    return [sample.completion for sample in run.sample(list(prompts), drawn).result(PATIENCE).samples]
