"""A checkpoint's adapter as the files that ``peft.PeftModel.from_pretrained`` loads; made without a tensor library.

The trainer calls its tensors as peft does in a model with one adapter. peft's files differ in one name only: DoRA's
magnitudes have no ``.weight``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tensorguard.artifact import CheckpointDamagedError
from tensorguard.tgsp import tensors
from tensorguard.tgsp.errors import PackageError

from processors.exporter.errors import NothingToExportError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tensorguard.artifact import ArtifactManifest, LoraSettings
    from tensorguard.crypto.memory import Data
    from tensorguard.tgsp.tensors import Slice

    from processors.exporter.orders import BaseFacts

ADAPTER = "adapter/"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ALL_LINEAR = "all-linear"
_ROOT, _LAYER = "base_model.model.", ".lora_A.weight"
_MAGNITUDE = ".lora_magnitude_vector"
_FUSED = (".experts", ".base_layer")
_TRANSPOSED = frozenset({"GPT2LMHeadModel", "OpenAIGPTLMHeadModel", "DecisionTransformerGPT2Model", "CTRLLMHeadModel"})
"""Architectures that keep weights input by output, which peft calls ``fan_in_fan_out``."""


def adapter_files(
    image: bytearray, manifest: ArtifactManifest, base: BaseFacts | None
) -> list[tuple[str, Iterable[Data]]]:
    """The files by name, in pieces that are views of a checkpoint's plaintext image.

    Raises:
        NothingToExportError: the checkpoint holds all weights, not an adapter.
        CheckpointDamagedError: the tensors are not those that the ledger knows by their digest, or cannot be read.
    """
    if manifest.lora is None:
        raise NothingToExportError("The checkpoint holds all weights of its model, and no adapter.")
    held = trained_tensors(image, manifest)
    config = json.dumps(adapter_config(manifest.lora, held, manifest.model, base), indent=2, sort_keys=True)
    renamed = {_peft_name(name): part for name, part in held.items()}
    view = memoryview(image)
    header = tensors.build_header(renamed, {"format": "pt"})
    pieces: list[Data] = [header, *(view[renamed[name].start : renamed[name].end] for name in sorted(renamed))]
    return [(CONFIG, [config.encode() + b"\n"]), (WEIGHTS, pieces)]


def trained_tensors(image: bytearray, manifest: ArtifactManifest) -> dict[str, Slice]:
    """The tensors that a run trained, by their names, and where they stand in a checkpoint's image.

    Raises:
        CheckpointDamagedError: they are not those that the ledger knows by their digest, or cannot be read.
    """
    try:
        found, _ = tensors.parse(image)
    except PackageError as error:
        raise CheckpointDamagedError("The checkpoint holds no tensors that can be read.") from error
    held = {name.removeprefix(ADAPTER): part for name, part in found.items() if name.startswith(ADAPTER)}
    if not held or tensors.adapter_digest(image, held).hex() != manifest.adapter_digest:
        raise CheckpointDamagedError("The checkpoint's weights are not those that its manifest names.")
    return held


def adapter_config(lora: LoraSettings, names: Iterable[str], model: str, base: BaseFacts | None) -> dict[str, Any]:
    """What peft must know to put the tensors around a base model's layers."""
    source, _, revision = (base.source or model if base else model).partition("@")
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": source,
        "revision": revision or None,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "bias": lora.bias,
        "target_modules": _targets(lora, names),
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
        "fan_in_fan_out": base is not None and base.architecture in _TRANSPOSED,
    }


def _targets(lora: LoraSettings, names: Iterable[str]) -> str | list[str]:
    """The layers with an adapter: as the run named them, or every one by its path.

    Weights of several experts in one tensor have no layer that could be named; peft finds them as it did in training.
    """
    if lora.target_modules and ALL_LINEAR not in lora.target_modules:
        return sorted(lora.target_modules)
    layers = [name.removeprefix(_ROOT).removesuffix(_LAYER) for name in names if name.endswith(_LAYER)]
    return ALL_LINEAR if any(layer.endswith(_FUSED) for layer in layers) else sorted(layers)


def _peft_name(name: str) -> str:
    return name.removesuffix(".weight") if name.removesuffix(".weight").endswith(_MAGNITUDE) else name


def peft_state(held: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors by the names that peft's files have for them."""
    return {_peft_name(name): tensor for name, tensor in held.items()}
