"""Which files of a folder a catalogue model consists of."""

from __future__ import annotations

import json
import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from tensorguard.model_manifest import TOKENIZER_FILES

from processors.errors import (
    ModelFileRefusedError,
    ModelIncompleteError,
    ModelNotFoundError,
    PickledWeightsError,
    TokenizerMissingError,
)

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

CONFIG = "config.json"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_SETTINGS = frozenset({CONFIG, "generation_config.json"})
_SHARD = re.compile(r"model[A-Za-z0-9._-]*\.safetensors")
_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"})
_TOKENIZERS = ({"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"}, {"vocab.txt"})


def choose_files(path: Path) -> list[Path]:
    """The files of a folder that a catalogue model consists of, sorted by name; others stay behind.

    Raises:
        ModelNotFoundError, PickledWeightsError, ModelFileRefusedError, ModelIncompleteError, TokenizerMissingError:
            it may not come in.
    """
    if not path.is_dir():
        raise ModelNotFoundError(f"{path} is no folder.")
    entries = {entry.name: entry for entry in path.iterdir()}
    chosen = choose_names(entries.keys())
    for name, entry in sorted(entries.items()):
        _check_entry(entry, chosen=name in chosen)
    if INDEX in chosen:
        chosen = (chosen - _shards(chosen)) | _named_by_index(path, entries.keys())
    return [entries[name] for name in sorted(chosen)]


def choose_names(names: Collection[str]) -> frozenset[str]:
    """Of the names in a folder or a repository those that a catalogue model needs; of shards all.

    Raises:
        ModelNotFoundError, PickledWeightsError, TokenizerMissingError: they make no model.
    """
    have = frozenset(names)
    weights = {WHOLE} if WHOLE in have else {INDEX} | _shards(have) if INDEX in have else set()
    if not weights and (pickled := sorted(filter(_is_pickled, have))):
        raise _pickled_weights(pickled[0])
    if CONFIG not in have or not weights:
        raise ModelNotFoundError(f"There is no {CONFIG} with {WHOLE} or {INDEX}.")
    if not any(tokenizer <= have for tokenizer in _TOKENIZERS):
        raise TokenizerMissingError("There is no tokenizer.")
    return frozenset(weights | (have & (_SETTINGS | TOKENIZER_FILES)))


def weight_map(path: Path) -> dict[str, str]:
    """For every tensor the shard that holds it, as a folder's index says.

    Raises:
        ModelIncompleteError: the index says nothing that can be read.
    """
    try:
        found = json.loads((path / INDEX).read_bytes())["weight_map"]
        return {str(name): str(shard) for name, shard in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelIncompleteError(f"{INDEX} names no tensors and files.") from error


def _check_entry(entry: Path, *, chosen: bool) -> None:
    if _is_pickled(entry.name):
        raise _pickled_weights(entry.name)
    if chosen and (entry.is_symlink() or not entry.is_file()):
        raise ModelFileRefusedError(f"{entry.name} is no plain file.")


def _is_pickled(name: str) -> bool:
    return PurePath(name).suffix in _PICKLED


def _pickled_weights(name: str) -> PickledWeightsError:
    return PickledWeightsError(f"{name} is not in a format without code.")


def _named_by_index(path: Path, have: Collection[str]) -> set[str]:
    named = set(weight_map(path).values())
    missing = sorted(named - _shards(have))
    if missing or not named:
        raise ModelIncompleteError(f"{INDEX} names {missing[0] if missing else 'no file'}, which is not there.")
    return named


def _shards(names: Collection[str]) -> frozenset[str]:
    return frozenset(name for name in names if _SHARD.fullmatch(name))
