"""Real, tiny models of several families with a tokenizer of their own: a test makes and trains one in a blink."""

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


CHAT = (  # turns that end with the token that ends texts
    "{% for message in messages %}{{ message.role }}: {{ message.content }}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gpt2", "gemma", "mixtral")


def build_tiny_model(
    directory: Path,
    *,
    family: str = "llama",
    seed: int = 0,
    hidden: int = HIDDEN,
    layers: int = LAYERS,
    biases: bool = False,
    chat_template: str | None = None,
) -> Path:
    """Write config, safetensors and tokenizer files into a folder, made if need be; same seed, same bytes.

    ``biases`` gives a Llama's attention biases; the other families have those that they have.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    build_tiny_tokenizer(directory, chat_template)
    _save_model(directory, _config(family, hidden, layers, biases=biases), seed)
    return directory


def build_tiny_tokenizer(directory: Path, chat_template: str | None = None) -> Path:
    """Write the tokenizer's files alone."""
    directory.mkdir(parents=True, exist_ok=True)
    _save_tokenizer(directory)
    if chat_template is not None:
        (directory / "chat_template.jinja").write_text(chat_template)
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


def _config(family: str, hidden: int, layers: int, *, biases: bool) -> Any:
    import transformers  # noqa: PLC0415 - heavy

    common: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "initializer_range": 0.1,
    }
    if family == "gpt2":
        still = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        sizes = {"n_embd": hidden, "n_layer": layers, "n_head": 4, "n_positions": MAX_POSITIONS}
        return transformers.GPT2Config(**common, **sizes, **still)
    sizes = {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": MAX_POSITIONS,
    }
    own: dict[str, dict[str, Any]] = {
        "llama": {"attention_bias": biases},
        "qwen3": {"head_dim": hidden // 4},
        "mistral": {"sliding_window": None},
        "gemma": {"head_dim": hidden // 4},
        "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    }
    return transformers.AutoConfig.for_model(family, **common, **sizes, **own.get(family, {}))


def _save_model(directory: Path, config: Any, seed: int) -> None:
    import torch  # noqa: PLC0415 - heavy
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - heavy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(directory)
