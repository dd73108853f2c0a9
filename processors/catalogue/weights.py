"""What safetensors files say of their tensors; no weight is read."""

from __future__ import annotations

import json
import re
from math import prod
from typing import TYPE_CHECKING, Any

from processors.catalogue.folder import INDEX, weight_map
from processors.errors import ModelError, ModelIncompleteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LONGEST_HEADER = 100 << 20
_EXPERT = re.compile(r"\.experts\.\d+\.(?:.*\.)?(?P<layer>[^.]+)\.weight$")


def stored_tensors(directory: Path) -> Iterator[tuple[str, Any]]:
    """Names and entries (dtype, shape) of all tensors in a folder's safetensors files.

    Raises:
        ModelError: a file is no safetensors file.
    """
    for path in sorted(directory.glob("*.safetensors")):
        yield from _tensors(path)


def count_parameters(directory: Path) -> int:
    """How many numbers the tensors hold together.

    Raises:
        ModelError: a file is no safetensors file, or the index names tensors that its files do not hold.
    """
    if (directory / INDEX).exists():
        _check_index(directory)
    return sum(prod(entry["shape"]) for _, entry in stored_tensors(directory))


def linear_modules(directory: Path) -> frozenset[str]:
    """The last parts of the names of modules with a weight matrix: what ``target_modules`` may name."""
    names = (name.split(".") for name, entry in stored_tensors(directory) if len(entry["shape"]) > 1)
    return frozenset(parts[-2] for parts in names if parts[-1] == "weight" and len(parts) > 1)


def expert_modules(directory: Path) -> frozenset[str]:
    """The last parts of the names of layers that each expert of a mixture has of its own.

    In memory these are fused into one parameter for all experts, whatever the files hold.
    """
    names = (name for name, _ in stored_tensors(directory))
    return frozenset(found["layer"] for name in names if (found := _EXPERT.search(name)))


def _check_index(directory: Path) -> None:
    held: dict[str, set[str]] = {}
    for name, shard in weight_map(directory).items():
        held.setdefault(shard, set()).add(name)
    for shard, names in sorted(held.items()):
        missing = names - {name for name, _ in _tensors(directory / shard)}
        if missing:
            raise ModelIncompleteError(f"{shard} lacks {min(missing)}, which {INDEX} says it holds.")


def _tensors(path: Path) -> list[tuple[str, Any]]:
    try:
        return _header(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path.name} is no whole safetensors file.") from error


def _header(path: Path) -> list[tuple[str, Any]]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _LONGEST_HEADER:
            raise ValueError("header too long")
        header = json.loads(file.read(size))
    tensors = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    end = max((entry["data_offsets"][1] for _, entry in tensors), default=0)
    if path.stat().st_size != 8 + size + end:
        raise ValueError("the data ends elsewhere than the header says")
    return tensors
