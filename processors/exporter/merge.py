"""A base model with a checkpoint's weights in it, as the files of a model folder. Nothing of it is on disk in plain."""

from __future__ import annotations

import json
import os
import warnings
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from tensorguard.crypto.memory import wipe
from tensorguard.model_manifest import TOKENIZER_FILES, stamps
from tensorguard.tgsp import tensors as images
from transformers import AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from processors.catalogue import model_dir, verify_model
from processors.catalogue.folder import CONFIG, INDEX, WHOLE
from processors.catalogue.trial import quiet
from processors.errors import ModelChangedError
from processors.exporter.adapter_folder import ADAPTER, adapter_config, peft_state, trained_tensors
from processors.exporter.checkpoints import Checkpoints
from processors.exporter.errors import BaseModelUnknownError
from processors.exporter.store import ExportStore
from processors.trainer.errors import CheckpointMismatchError
from processors.trainer.tensors import DTYPES, raw_bytes, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from tensorguard.artifact import ArtifactManifest
    from tensorguard.crypto.memory import Data
    from torch import Tensor

    from processors.exporter.merging import Task
    from producers.installation import Installation

    File = tuple[str, Iterable[Data]]

SHARD_BYTES = 2 << 30
_COPIED = TOKENIZER_FILES | {"generation_config.json"}


def make_merged(installation: Installation, task: Task, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the files of a merged export.

    Raises:
        ArtifactError, ExportError, ModelError, BlobError, KeyProviderError: why there is none.
    """
    quiet()
    artifact, digest = bytes.fromhex(task.artifact_id), bytes.fromhex(task.manifest_digest)
    manifest, image = Checkpoints.of(installation).open(task.tenant, artifact, digest)
    try:
        trained_tensors(image, manifest)
        weights = {name.removeprefix(ADAPTER): value for name, value in _held(image).items()}
    finally:
        wipe(image)
    directory = model_dir(installation, bytes.fromhex(manifest.manifest_digest))
    model = merged(directory, manifest, weights, task.dtype)
    files = model_files(model, directory, shard_bytes)
    ExportStore.of(installation).write(task.tenant, bytes.fromhex(task.export_id), files)


def _held(image: bytearray) -> dict[str, Tensor]:
    found, _ = unpack(image)
    return {name: value for name, value in found.items() if name.startswith(ADAPTER)}


def merged(directory: Path, manifest: ArtifactManifest, weights: Mapping[str, Tensor], dtype: str) -> Any:
    """The base model with trained weights in it; a run of all weights keeps the precision that it was trained in.

    Raises:
        ModelError: the base model's files are gone, or not those that were registered.
        CheckpointMismatchError: the weights are not such a model's.
    """
    model = _base(directory, bytes.fromhex(manifest.manifest_digest), dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _tuned(model, weights) if manifest.lora is None else _adapted(model, manifest, weights)


def _base(directory: Path, digest: bytes, dtype: str) -> Any:
    if not directory.is_dir():
        raise BaseModelUnknownError("The base model's files are not in the catalogue.")
    before = stamps(directory)
    verify_model(directory, digest)
    model: Any = AutoModelForCausalLM.from_pretrained(
        directory,
        dtype=getattr(torch, dtype),
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # out of the mapped file, which could change meanwhile
    if stamps(directory) != before:
        raise ModelChangedError("A catalogue model's files changed while they were loaded.")
    return model


def _tuned(model: Any, weights: Mapping[str, Tensor]) -> Any:
    trained = next(iter(weights.values())).dtype
    model = model.to(trained)
    _check(model.load_state_dict(weights, strict=False).unexpected_keys)
    return model


def _adapted(model: Any, manifest: ArtifactManifest, weights: Mapping[str, Tensor]) -> Any:
    if manifest.lora is None:
        raise CheckpointMismatchError("The checkpoint holds no adapter.")
    settings = adapter_config(manifest.lora, weights, manifest.model, None)
    with_adapter = get_peft_model(model, LoraConfig(**{**settings, "peft_type": None}))
    loaded: Any = set_peft_model_state_dict(with_adapter, peft_state(weights))
    _check(loaded.unexpected_keys)
    made: Any = with_adapter
    return made.merge_and_unload()


def _check(unexpected: Iterable[str]) -> None:
    if list(unexpected):
        raise CheckpointMismatchError("The checkpoint's weights are not those of its base model.")


def model_files(model: Any, directory: Path, shard_bytes: int) -> Iterator[File]:
    """The files of a model's folder, by name and in pieces: settings and tokenizer of the base, weights in shards."""
    yield CONFIG, [_config(directory, model.dtype)]
    for path in sorted(directory.iterdir()):
        if path.name in _COPIED:
            yield path.name, [path.read_bytes()]
    state = revert_weight_conversion(model, remove_tied_weights_from_state_dict(model.state_dict(), model))
    plan = split_torch_state_dict_into_shards(
        state, filename_pattern=WHOLE.replace(".", "{suffix}.", 1), max_shard_size=shard_bytes
    )
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        yield INDEX, [json.dumps(index, indent=2, sort_keys=True).encode() + b"\n"]
    for name, held in plan.filename_to_tensors.items():
        yield name, _safetensors({each: state[each] for each in held})


def _config(directory: Path, dtype: torch.dtype) -> bytes:
    config = json.loads((directory / CONFIG).read_bytes())
    config.pop("torch_dtype", None)  # what older releases called it
    return json.dumps({**config, "dtype": str(dtype).removeprefix("torch.")}, indent=2, sort_keys=True).encode() + b"\n"


def _safetensors(held: Mapping[str, Tensor]) -> Iterator[Data]:
    """A safetensors file in pieces: its header, then one tensor after another."""
    slices = {name: images.Slice(DTYPES[t.dtype], tuple(t.shape), 0, t.nbytes) for name, t in held.items()}
    yield images.build_header(slices, {"format": "pt"})
    for name in sorted(held):
        yield raw_bytes(held[name])
