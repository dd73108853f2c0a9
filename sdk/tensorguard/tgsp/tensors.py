"""The header of a safetensors file, read and written without any tensor library.

Layout: ``uint64 (little-endian) header length || JSON header || data``. The header maps each tensor to ``dtype``,
``shape`` and ``data_offsets``; ``__metadata__`` maps strings to strings.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tensorguard.tgsp.errors import PackageMalformedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensorguard.crypto.memory import Data

MAX_HEADER_BYTES = 1 << 26
LENGTH_BYTES = 8
ALIGNMENT = 8
METADATA = "__metadata__"
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class Slice:
    """One tensor: dtype as safetensors spells it, shape, and where its bytes stand in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def parse(image: Data) -> tuple[dict[str, Slice], dict[str, str]]:
    """The tensors of a file and its metadata.

    Raises:
        PackageMalformedError: offsets leave gaps, overlap or do not fit their shapes, or the file is none.
    """
    view = memoryview(image)
    length = int.from_bytes(view[:LENGTH_BYTES], "little")
    first = LENGTH_BYTES + length
    if len(view) < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, len(view) - LENGTH_BYTES):
        raise PackageMalformedError("A safetensors file ends inside its header.")
    try:
        header = json.loads(bytes(view[LENGTH_BYTES:first]))
        metadata = {str(key): str(value) for key, value in header.pop(METADATA, {}).items()}
        slices = {name: _slice(entry, first) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackageMalformedError("A safetensors header is not in the known form.") from error
    _check_cover(slices, first, len(view))
    return slices, metadata


def build_header(tensors: Mapping[str, Slice], metadata: Mapping[str, str]) -> bytes:
    """The start of a file that holds these tensors' bytes one after another, sorted by name."""
    header: dict[str, Any] = {METADATA: dict(metadata)}
    end = 0
    for name in sorted(tensors):
        start, end = end, end + tensors[name].end - tensors[name].start
        tensor = tensors[name]
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


def adapter_digest(image: Data, tensors: Mapping[str, Slice]) -> bytes:
    """What the ledger calls an adapter's digest (32 bytes).

    SHA-256 over the tensors sorted by name: ``name 00 dtype 00 shape as JSON 00 raw bytes``.
    """
    view, digest = memoryview(image), sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        shape = json.dumps(list(tensor.shape), separators=(",", ":"))
        digest.update(b"\x00".join((name.encode(), tensor.dtype.encode(), shape.encode(), b"")))
        digest.update(view[tensor.start : tensor.end])
    return digest.digest()


def _slice(entry: dict[str, Any], first: int) -> Slice:
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    start, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, start, end)):
        raise ValueError("not a size")
    if end - start != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError("offsets do not fit the shape")
    return Slice(dtype, shape, first + start, first + end)


def _check_cover(slices: Mapping[str, Slice], first: int, size: int) -> None:
    at = first
    for tensor in sorted(slices.values(), key=lambda tensor: (tensor.start, tensor.end)):
        if tensor.start != at:
            raise PackageMalformedError("A safetensors file has a gap or an overlap between tensors.")
        at = tensor.end
    if at != size:
        raise PackageMalformedError("A safetensors file is longer or shorter than its tensors.")
