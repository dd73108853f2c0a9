"""One frozen base model in memory, shared by the adapters of many runs."""

from __future__ import annotations

import inspect
import itertools
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from processors.trainer.biases import RunBiases
from processors.trainer.errors import ChatTemplateError, OperationFailedError
from processors.trainer.mixing import naming

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jinja2 import TemplateError
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor
    from torch.nn import Parameter

    from schemas.types import LoraSpec

DTYPE = torch.float32
ALL_LINEAR = "all-linear"
MIXED, BARE = "", "__base__"


class SharedBase:
    """A catalogue model, loaded once. Adapters are added, activated one at a time, and removed by name.

    Names are given by :meth:`add`; parameter names are peft's without the adapter's, so that they are the same
    for every run.
    """

    def __init__(self, directory: Path, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.base: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=DTYPE,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        torch.nn.Module.to(self.base, self.device).requires_grad_(False)
        own_memory(self.base)
        self.tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        self._accepts = frozenset(inspect.signature(self.base.forward).parameters)
        self._peft: PeftModel | None = None
        self._names = (f"run{number}" for number in itertools.count())
        self._active: tuple[str, bool] | None = None
        self._biases = RunBiases()

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return int(self.base.get_input_embeddings().num_embeddings)

    @property
    def max_positions(self) -> int:
        """The longest sequence, in tokens."""
        return int(getattr(self.base.config, "max_position_embeddings", 0) or 1 << 20)

    @property
    def attention(self) -> str:
        """The attention kernel's name."""
        return str(getattr(self.base.config, "_attn_implementation", "unknown"))

    @property
    def end_tokens(self) -> frozenset[int]:
        """The token ids that end a completion."""
        ends = self.base.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    def add(self, lora: LoraSpec, seed: int) -> str:
        """A new adapter, initialised from a seed; its name. No other adapter and no base weight changes.

        Raises:
            OperationFailedError: the settings do not fit this model.
        """
        config = self._config(lora)
        name = next(self._names)
        self._deactivate()
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            if self._peft is None:
                self._peft = get_peft_model(self.base, config, adapter_name=name)
            else:
                self._peft.add_adapter(name, config)
        self._biases.add(name, self._peft, lora.bias)
        return name

    def _config(self, lora: LoraSpec) -> LoraConfig:
        targets = lora.target_modules or (ALL_LINEAR,)
        self._check_targets(targets)
        return LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft divides by it: any number will do
            lora_dropout=lora.dropout,
            bias="none",  # peft would train the base's own biases under every other run; see RunBiases
            target_modules=ALL_LINEAR if targets == (ALL_LINEAR,) else list(targets),
        )

    def _check_targets(self, targets: tuple[str, ...]) -> None:
        names = [name for name, _ in self.base.named_modules()]
        for target in targets:
            if target != ALL_LINEAR and not any(name == target or name.endswith(f".{target}") for name in names):
                raise OperationFailedError("A target module is none of this model's.")

    def remove(self, name: str) -> None:
        """Free an adapter."""
        self._deactivate()
        self._biases.remove(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._loaded.delete_adapter(name)

    def activate(self, name: str, *, training: bool) -> PeftModel:
        """The model with one adapter switched on, in training (dropout) or evaluation mode."""
        model = self._loaded
        if self._active != (name, training):
            self._deactivate()
            model.set_adapter(name)
            model.train(training)
            self._biases.install(name)
            self._active = (name, training)
        return model

    def mixes(self, name: str) -> bool:
        """Whether rows of this adapter can share a pass with rows of others: a plain LoRA without biases of its own."""
        return not self._biases.of(name) and not getattr(self._loaded.peft_config[name], "use_dora", False)

    @contextmanager
    def serving(self, names: Sequence[str | None]) -> Iterator[Callable[..., Any]]:
        """The model in evaluation mode for rows that each have an adapter, or None: the base as it was registered.

        Several different ones must all mix (see :meth:`mixes`); gradients are for the caller to switch off.
        """
        if len(set(names)) == 1 and names[0] is not None:
            yield self.activate(names[0], training=False)
            return
        if self._active != (MIXED, False):
            self._deactivate()
            self.base.eval()
            self._active = (MIXED, False)
        with naming(self.base, [BARE if name is None else name for name in names]):
            yield self.base

    def _deactivate(self) -> None:
        self._biases.restore()
        self._active = None

    def parameters(self, name: str) -> dict[str, Parameter]:
        """An adapter's parameters by their names, sorted."""
        marker = f".{name}"
        found = {
            _without(full, marker): parameter
            for full, parameter in self._loaded.named_parameters()
            if f"{full}.".find(f"{marker}.") >= 0
        }
        return dict(sorted({**found, **self._biases.of(name)}.items()))

    def arguments(self, **wanted: Any) -> Mapping[str, Any]:
        """Of some arguments of a forward pass those that this architecture takes."""
        return {key: value for key, value in wanted.items() if key in self._accepts}

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, never empty."""
        tokens: list[int] = self.tokenizer(text)["input_ids"]
        start = self.tokenizer.bos_token_id
        return tokens or [self.tokenizer.eos_token_id if start is None else start]

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The token ids of a conversation by the tokenizer's template, up to where the model is to answer.

        Raises:
            ChatTemplateError: there is no template, or it refuses these messages.
        """
        if not self.tokenizer.chat_template:
            raise ChatTemplateError("The model's tokenizer has no chat template.")
        try:
            encoded: Any = self.tokenizer.apply_chat_template(
                [dict(message) for message in messages], add_generation_prompt=True, return_dict=True
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ChatTemplateError("The model's chat template refuses the messages.") from error
        tokens: list[int] = encoded["input_ids"]
        return tokens

    def decode(self, tokens: list[int] | Tensor) -> str:
        """The text of token ids, without special tokens."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    @property
    def _loaded(self) -> PeftModel:
        if self._peft is None:
            raise OperationFailedError("This model has no adapter.")
        return self._peft


def own_memory(model: torch.nn.Module) -> None:
    """Move weights out of the mapped file, which could change or be cut under a running model."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def _without(full: str, marker: str) -> str:
    return f"{full}.".replace(f"{marker}.", ".").removesuffix(".")
