"""A real, tiny Llama with its own tokenizer: small enough that a test makes and trains it in a blink."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = 32
LAYERS = 2
VOCABULARY = 384
MAX_POSITIONS = 128
END = "<|end|>"
TEXT = (
    "To be, or not to be, that is the question: whether 'tis nobler in the mind to suffer the slings and arrows of "
    "outrageous fortune, or to take arms against a sea of troubles and by opposing end them."
)


def build_tiny_model(
    directory: Path, *, seed: int = 0, hidden: int = HIDDEN, layers: int = LAYERS, biases: bool = False
) -> Path:
    """Write config, safetensors and tokenizer files into a folder, made if need be; same seed, same bytes."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    directory.mkdir(parents=True, exist_ok=True)
    _save_tokenizer(directory)
    _save_model(directory, seed=seed, hidden=hidden, layers=layers, biases=biases)
    return directory


def _save_tokenizer(directory: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415 - heavy
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - heavy

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, eos_token=END, pad_token=END).save_pretrained(directory)


def _save_model(directory: Path, *, seed: int, hidden: int, layers: int, biases: bool) -> None:
    import torch  # noqa: PLC0415 - heavy
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - heavy

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        initializer_range=0.1,
        attention_bias=biases,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(directory)
