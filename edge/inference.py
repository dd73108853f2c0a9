"""The base model with the package's adapter on it. Only this file needs torch, and only when it is used.

The adapter's parameters are views of the locked memory: the weights are never copied out of it.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge.errors import ModelUnusableError, PromptError

if TYPE_CHECKING:
    from pathlib import Path

    from tensorguard.artifact.manifest import LoraSettings

    from edge.opening import Weights

_ADAPTER = "default"


@dataclass(frozen=True, slots=True)
class Completion:
    """A prompt's continuation; ``finish_reason`` is "stop" or "length"."""

    prompt: str
    completion: str
    tokens_generated: int
    finish_reason: str


class Runner:
    """A base model that takes one adapter; inference only."""

    def __init__(self, folder: Path, lora: LoraSettings) -> None:
        """Load the base model and shape it for the adapter.

        Raises:
            ModelUnusableError: it cannot be loaded, or the adapter's settings do not fit it.
        """
        _offline()
        import torch  # noqa: PLC0415 (seconds to load, and not needed to refuse a package)
        from peft import get_peft_model  # noqa: PLC0415
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

        self._torch: Any = torch
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # notices for developers of these libraries
                self._tokenizer: Any = AutoTokenizer.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False
                )
                base = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, trust_remote_code=False
                )
                _own_memory(base)
                self._model: Any = get_peft_model(base, _config(lora), adapter_name=_ADAPTER)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise ModelUnusableError(f"The base model cannot be used ({type(error).__name__}).") from error
        # What peft would train is what an adapter consists of: its matrices, and biases if its settings name them.
        self._parts: dict[str, Any] = {
            name.replace(f".{_ADAPTER}.", "."): parameter
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad
        }
        self._model.eval().requires_grad_(requires_grad=False)

    def attach(self, weights: Weights) -> None:
        """Let the adapter's parameters be the weights in locked memory.

        Raises:
            ModelUnusableError: names, shapes or types are not those of this adapter on this model.
        """
        if self._parts.keys() != weights.tensors.keys():
            raise ModelUnusableError("The package's tensors are not those of this adapter on this model.")
        for name, parameter in self._parts.items():
            parameter.data = self._tensor(weights, name, parameter)

    def detach(self) -> None:
        """Let go of the weights; the model is of no use after that."""
        for parameter in self._model.parameters():
            parameter.data = self._torch.empty(0)

    def sample(self, prompt: str, max_tokens: int) -> Completion:
        """The likeliest continuation.

        Raises:
            PromptError: the prompt fills all of the model's positions.
        """
        encoded = self._tokenizer(prompt or self._tokenizer.eos_token, return_tensors="pt")
        length = int(encoded["input_ids"].shape[1])
        room = int(self._model.config.max_position_embeddings) - length
        if room < 1:
            raise PromptError(f"The prompt has {length} tokens.")
        with self._torch.inference_mode():
            output = self._model.generate(
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=min(max_tokens, room),
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
            )
        made = output[0, length:].tolist()
        ended = bool(made) and made[-1] == self._tokenizer.eos_token_id
        text = self._tokenizer.decode(made, skip_special_tokens=True)
        return Completion(prompt, text, len(made), "stop" if ended else "length")

    def _tensor(self, weights: Weights, name: str, parameter: Any) -> Any:
        entry = weights.tensors[name]
        if entry.dtype != "F32" or entry.shape != tuple(parameter.shape):
            raise ModelUnusableError("A tensor of the package has another shape or type than this adapter's.")
        flat = self._torch.frombuffer(
            weights.image, dtype=self._torch.float32, count=parameter.numel(), offset=entry.start
        )
        return flat.reshape(entry.shape)


def _own_memory(model: Any) -> None:
    """Move weights out of the mapped file, which could change or be cut under a running model."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def _offline() -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging  # noqa: PLC0415 (heavy)

    quiet: Any = logging
    quiet.disable_progress_bar()
    quiet.set_verbosity_error()


def _config(lora: LoraSettings) -> Any:
    from peft import LoraConfig  # noqa: PLC0415 (heavy)

    arguments: dict[str, Any] = {
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "bias": lora.bias,
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
    }
    modules = _targets(lora.target_modules)
    return LoraConfig(task_type="CAUSAL_LM", target_modules=modules, **arguments)


def _targets(modules: list[str]) -> list[str] | str:
    return "all-linear" if modules in ([], ["all-linear"]) else modules
