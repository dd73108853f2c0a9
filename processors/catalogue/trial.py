"""Whether transformers makes a causal language model of a folder, and what it then knows about it.

The model is built without memory for its weights: only names and shapes are compared. No code of the folder runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from processors.errors import (
    ModelError,
    ModelIncompleteError,
    ModelNotCausalError,
    ModelRecurrentError,
    ModelUnsupportedError,
    RemoteCodeError,
    TokenizerMissingError,
)

if TYPE_CHECKING:
    from pathlib import Path

UNBOUNDED = 1 << 20
"""The longest sequence of a model that names none."""
_POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx")
_RECURRENT = frozenset({"linear_attention", "conv", "hybrid", "hybrid_sliding"})
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True, slots=True)
class Facts:
    """What runs and clients need to know of a model."""

    architecture: str
    vocabulary_size: int
    max_positions: int
    has_chat_template: bool


def try_model(folder: Path, config: dict[str, Any], dtype: str) -> Facts:
    """Build a folder's model, without its weights, and its tokenizer; ``config`` is its config file's content.

    Raises:
        ModelError: it is none that can be trained here; each reason has its own class.
    """
    quiet()
    architecture = _check_kind(config)
    model = _built(folder, dtype)
    _check_layers(model)
    return Facts(
        architecture,
        int(model.get_input_embeddings().num_embeddings),
        _positions(model.config.get_text_config()),
        _has_chat_template(folder),
    )


def quiet() -> None:
    """Let transformers draw no progress bars and log no warnings."""
    library: Any = logging  # untyped
    library.disable_progress_bar()
    library.set_verbosity_error()


def _check_kind(config: dict[str, Any]) -> str:
    """The architecture's name.

    Raises:
        ModelError: it is no causal language model of transformers' own, or one of quantised weights.
    """
    kind, names = config.get("model_type"), config.get("architectures")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if config.get("auto_map"):
            raise RemoteCodeError("The model needs code of its own, which a catalogue model must not.")
        raise ModelUnsupportedError(f"The installed transformers knows no model type {str(kind)[:80]!r}.")
    if config.get("quantization_config"):
        raise ModelUnsupportedError("The weights are quantised; adapters are trained on plain ones.")
    made = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, ())
    allowed = (made,) if isinstance(made, str) else tuple(made)
    name = names[0] if isinstance(names, list) and names else None
    if name not in allowed:
        raise ModelNotCausalError(f"{str(name)[:80]} is no causal language model.")
    return str(name)


def _built(folder: Path, dtype: str) -> Any:
    loader: Any = AutoModelForCausalLM  # whose type does not know what output_loading_info gives
    try:
        AutoConfig.from_pretrained(folder, **_LOCAL)
        model, info = loader.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            device_map="meta",
            use_safetensors=True,
            output_loading_info=True,
            **_LOCAL,
        )
    except Exception as error:
        raise ModelError(f"transformers cannot load the model ({type(error).__name__}).") from error
    lacking = sorted({*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])})
    if lacking:
        raise ModelIncompleteError(f"The weights lack {lacking[0]}, or have it in another shape.")
    return model


def _check_layers(model: Any) -> None:
    """Refuse layers whose memory is no keys and values: sampling adds and drops rows of those alone.

    Raises:
        ModelRecurrentError: there is one.
    """
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    if getattr(model, "_is_stateful", False) or not _RECURRENT.isdisjoint(kinds):
        raise ModelRecurrentError("The model has layers that carry a state from token to token.")


def _positions(config: Any) -> int:
    found = (getattr(config, name, None) for name in _POSITIONS)
    return next((int(value) for value in found if isinstance(value, int) and value > 0), UNBOUNDED)


def _has_chat_template(folder: Path) -> bool:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **_LOCAL)
    except Exception as error:
        raise TokenizerMissingError(f"Its tokenizer cannot be loaded ({type(error).__name__}).") from error
    return bool(getattr(tokenizer, "chat_template", None))
