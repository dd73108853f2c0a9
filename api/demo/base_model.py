"""A small base model from real text: a byte-level BPE and a Llama of two million parameters, measured against unigrams.

Run as ``python -m api.demo.base_model --out DIR``; it writes a Hugging Face model folder (safetensors, tokenizer) and
one JSON object per line to its output: progress, then the report. Losses are mean nats per token.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from api.demo.corpus import Corpus, code_corpus, path_corpus
from api.demo.errors import DemoError, ModelTooWeakError, TextTooShortError

END_OF_TEXT = "<|endoftext|>"

Rows = npt.NDArray[np.int64]  # token ids, (rows, window)
Progress = Callable[[int, int, float], None]  # step, steps, loss


@dataclass(frozen=True)
class Recipe:
    """The sizes of the model and of its training; the defaults take about a minute on two cores.

    A slow machine makes fewer steps, down to ``least_steps``, so as to stop after ``most_seconds`` of training with the
    learning rate at its end.
    """

    vocabulary: int = 2_048
    layers: int = 4
    hidden: int = 192
    intermediate: int = 512
    heads: int = 6
    positions: int = 512
    window: int = 128
    batch: int = 16
    steps: int = 300
    least_steps: int = 150
    most_seconds: float = 50
    warm_up: int = 20
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    text_bytes: int = 4_000_000
    held_out_windows: int = 128
    threads: int = 2
    seed: int = 7


@dataclass(frozen=True)
class Report:
    """What was made, and how it fares on text of unseen files."""

    parameters: int
    text_bytes: int
    train_tokens: int
    held_out_tokens: int
    steps: int
    held_out_loss: float
    unigram_loss: float
    seconds: float


def make_base_model(out: Path, corpus: Corpus, recipe: Recipe, progress: Progress) -> Report:
    """Train tokenizer and model on a corpus and save them below ``out``.

    Raises:
        TextTooShortError: too little text for one window to learn from or to measure on.
        ModelTooWeakError: the model does not beat the unigram model on the held-out text; nothing is saved.
    """
    began = time.monotonic()
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(recipe.seed)
    tokenizer = train_tokenizer(corpus.train, recipe.vocabulary)
    train = windows_of(tokenizer, corpus.train, recipe.window)
    held_out = windows_of(tokenizer, corpus.held_out, recipe.window)[: recipe.held_out_windows]
    model = LlamaForCausalLM(model_config(tokenizer, recipe))
    steps = train_model(model, train, recipe, progress)
    report = Report(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        text_bytes=corpus.size,
        train_tokens=train.size,
        held_out_tokens=held_out.size,
        steps=steps,
        held_out_loss=loss_of(model, held_out, recipe.batch),
        unigram_loss=unigram_loss(train, held_out, tokenizer.get_vocab_size()),
        seconds=time.monotonic() - began,
    )
    if not report.held_out_loss < report.unigram_loss:
        raise ModelTooWeakError(f"Held-out loss {report.held_out_loss:.3f}, unigrams {report.unigram_loss:.3f}.")
    save(out, model, tokenizer)
    return report


def train_tokenizer(texts: tuple[str, ...], vocabulary: int) -> Tokenizer:
    """A byte-level BPE: any text can be written in it, and read back unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def windows_of(tokenizer: Tokenizer, texts: tuple[str, ...], window: int) -> Rows:
    """The texts as token ids, each ended by the end-of-text token, cut into full rows of ``window``.

    Raises:
        TextTooShortError: the texts do not fill one row.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    ids = [token for encoded in tokenizer.encode_batch(list(texts)) for token in (*encoded.ids, end)]
    rows = len(ids) // window
    if not rows:
        raise TextTooShortError(f"The text has {len(ids)} tokens, and a window takes {window}.")
    return np.array(ids[: rows * window], dtype=np.int64).reshape(rows, window)


def model_config(tokenizer: Tokenizer, recipe: Recipe) -> LlamaConfig:
    """A Llama of the recipe's sizes with tied embeddings."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )


def train_model(model: LlamaForCausalLM, windows: Rows, recipe: Recipe, progress: Progress) -> int:
    """AdamW with a warm-up and a cosine, over rows drawn without replacement; the number of steps that were made."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    model.train()
    began, done, step = time.monotonic(), 0.0, 0
    for step, rows in enumerate(_row_batches(len(windows), recipe), start=1):
        batch = torch.from_numpy(windows[rows])
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * rate_share(step, done, recipe.warm_up)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress(step, recipe.steps, loss.item())
        spent = (time.monotonic() - began) / recipe.most_seconds
        done = max(step / recipe.steps, min(spent, step / recipe.least_steps))
        if done >= 1:
            break
    return step


def rate_share(step: int, done: float, warm_up: int) -> float:
    """The share of the full learning rate at a step, when ``done`` (0 to 1) of the training is over."""
    return min(step / warm_up, 0.02 + 0.49 * (1 + math.cos(math.pi * done)))


def _row_batches(rows: int, recipe: Recipe) -> Iterator[Rows]:
    random = np.random.default_rng(recipe.seed)
    while True:
        order = random.permutation(rows)
        for start in range(0, rows, recipe.batch):
            yield order[start : start + recipe.batch]


def loss_of(model: LlamaForCausalLM, windows: Rows, batch: int) -> float:
    """The model's mean loss on predicting all but the first token of each row."""
    model.train(mode=False)
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(windows), batch):
            rows = torch.from_numpy(windows[start : start + batch])
            total += model(input_ids=rows, labels=rows, use_cache=False).loss.item() * len(rows)
    return total / len(windows)


def unigram_loss(train: Rows, held_out: Rows, vocabulary: int) -> float:
    """The loss, on the same tokens, of a model that knows how often each token is (one count added to each)."""
    counts = np.bincount(train.ravel(), minlength=vocabulary) + 1.0
    return float(-np.log(counts / counts.sum())[held_out[:, 1:]].mean())


def save(out: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Write the model folder: config, safetensors, tokenizer."""
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=model.config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(out)


def main() -> int:
    """Make the model that the arguments ask for; 0 when saved, 1 when not good enough, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="python -m api.demo.base_model", description="Make a small base model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--text", type=Path, help="a UTF-8 file or folder instead of the standard library's code")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps")
    arguments = parser.parse_args()
    recipe = Recipe(steps=arguments.steps)
    try:
        texts = path_corpus(arguments.text, recipe.text_bytes) if arguments.text else code_corpus(recipe.text_bytes)
        report = make_base_model(arguments.out, texts, recipe, _say_progress)
    except DemoError as error:
        _say({"error": {"code": error.code, "detail": error.detail, "next_step": error.next_step}})
        return error.exit_code
    _say({"report": asdict(report)})
    return 0


def _say_progress(step: int, steps: int, loss: float) -> None:
    _say({"step": step, "steps": steps, "loss": loss})


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
