"""One frozen base model in memory, shared by many runs, which each have their own part of it."""

from __future__ import annotations

import inspect
import itertools
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from processors.trainer.device import Compute, device_of, settle_vector_math
from processors.trainer.skeleton import adapted, own_memory, skeleton, tuned

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer

from processors.catalogue import linear_modules
from processors.trainer.errors import ChatTemplateError, OperationFailedError
from processors.trainer.mixing import naming
from processors.trainer.targets import ALL_LINEAR, has_fused_weights, lora_config, plain_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from peft import PeftModel
    from torch import Tensor
    from torch.nn import Module, Parameter

    from schemas.types import LoraSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BARE = "__base__"


class SharedBase:
    """A catalogue model, loaded once and never changed; ``dtype`` is its weights'.

    Runs are added and removed by names that :meth:`add` gives. Plain LoRA adapters stand side by side in one peft
    model, where one pass can serve rows of several. Whatever peft cannot keep apart there (biases of a run's own, DoRA,
    parts of fused expert weights) gets a model of its own that shares the base's weights, and full fine-tuning one with
    weights of its own. Parameter names are those of a run that is alone.
    """

    def __init__(self, directory: Path, compute: Compute | None = None, dtype: str = "float32") -> None:
        settle_vector_math()
        compute = compute or Compute()
        self.device = device_of(compute.device)
        self.dtype = dtype
        self.base: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=DTYPES[dtype],
            attn_implementation=compute.attention,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        torch.nn.Module.to(self.base, self.device).requires_grad_(False)
        own_memory(self.base)
        if compute.gradient_checkpointing:
            self.base.activation_checkpointing_enable({"use_reentrant": False})
        self.compute = compute
        self.tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        self._stored = linear_modules(directory)
        self._accepts = frozenset(inspect.signature(self.base.forward).parameters)
        self._names = (f"run{number}" for number in itertools.count())
        self._shared: PeftModel | None = None
        self._switched: str | None = None
        self._own: dict[str, Any] = {}

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

    @property
    def nbytes(self) -> int:
        """The memory of the weights."""
        return sum(int(parameter.nbytes) for parameter in self.base.parameters())

    @property
    def cell_bytes(self) -> int:
        """The memory that keys and values of one more token of a completion take."""
        config: Any = self.base.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * width * DTYPES[self.dtype].itemsize)

    def add(self, lora: LoraSpec | None, seed: int) -> str:
        """A new run: an adapter initialised from a seed, or without one all weights; its name. Nothing else changes.

        Raises:
            OperationFailedError: the settings do not fit this model.
        """
        name = next(self._names)
        if lora is None:
            self._own[name] = tuned(self.base)
            return name
        self._check_targets(lora)
        config = lora_config(lora)
        if not self._mixable(lora):
            self._own[name] = adapted(skeleton(self.base, own_biases=lora.bias != "none"), config, name, seed)
        elif self._shared is None:
            self._shared = adapted(skeleton(self.base), config, name, seed)
        else:
            adapted(self._shared, config, name, seed)
        self._switched = None
        return name

    def _mixable(self, lora: LoraSpec) -> bool:
        if lora.use_dora or lora.bias != "none":
            return False
        return not has_fused_weights(self.base) or plain_modules(self.base).issuperset(lora.target_modules or [""])

    def _check_targets(self, lora: LoraSpec) -> None:
        known = {name.rpartition(".")[2] for name, _ in self.base.named_modules()} | self._stored | {ALL_LINEAR}
        paths = {name for name, _ in self.base.named_modules()}
        for target in lora.target_modules:
            if target not in known and not any(path == target or path.endswith(f".{target}") for path in paths):
                raise OperationFailedError("A target module is none of this model's.")

    def remove(self, name: str) -> None:
        """Free what a run has."""
        if self._own.pop(name, None) is None:
            self._switched = None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._together.delete_adapter(name)

    def activate(self, name: str, *, training: bool) -> Module:
        """The model with one run's part switched on, in training (dropout) or evaluation mode."""
        model: Any = self._own.get(name)
        if model is None:
            model = self._together
            if self._switched != name:
                model.set_adapter(name)
                self._switched = name
        if model.training != training:
            model.train(training)
        found: Module = model
        return found

    def mixes(self, name: str) -> bool:
        """Whether rows of this run can share a pass with rows of others."""
        return name not in self._own

    @contextmanager
    def serving(self, names: Sequence[str | None]) -> Iterator[Callable[..., Any]]:
        """The model in evaluation mode for rows that each have a run, or None: the base as it was registered.

        Several different ones must all mix (see :meth:`mixes`); gradients are for the caller to switch off.
        """
        different = set(names)
        if len(different) == 1:
            only = next(iter(different))
            yield self.base if only is None else self.activate(only, training=False)
            return
        model, self._switched = self._together, None
        if model.training:
            model.train(mode=False)
        with naming(model, [BARE if name is None else name for name in names]):
            yield model

    def parameters(self, name: str) -> dict[str, Parameter]:
        """A run's parameters by their names, sorted."""
        own: Any = self._own.get(name)
        if own is not None:
            found = {_without(full, name): p for full, p in own.named_parameters() if p.requires_grad}
        else:
            held = self._together.named_parameters()
            found = {_without(full, name): p for full, p in held if f".{name}." in f"{full}."}
        return dict(sorted(found.items()))

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
    def _together(self) -> PeftModel:
        if self._shared is None:
            raise OperationFailedError("This model has no adapter.")
        return self._shared


def _without(full: str, name: str) -> str:
    return f"{full}.".replace(f".{name}.", ".").removesuffix(".")
