"""Tensors as bytes: one safetensors image, and the digest of an adapter."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch

from processors.trainer.errors import CheckpointMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

ALIGNMENT = 8
HEADER_SIZE_BYTES = 8
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytearray:
    """A safetensors image: the one copy of the tensors' values that is made."""
    held = {name: _plain(tensors[name]) for name in sorted(tensors)}
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in held.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    image = bytearray(HEADER_SIZE_BYTES + len(text) + end)
    image[: HEADER_SIZE_BYTES + len(text)] = len(text).to_bytes(HEADER_SIZE_BYTES, "little") + text
    view, at = memoryview(image), HEADER_SIZE_BYTES + len(text)
    for tensor in held.values():
        view[at : at + tensor.nbytes] = _bytes(tensor)
        at += tensor.nbytes
    return image


def unpack(image: bytearray) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, as views of the image, and the metadata.

    Raises:
        CheckpointMismatchError: the bytes are no image of ours.
    """
    try:
        return _unpack(image)
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise CheckpointMismatchError("The checkpoint holds no tensors that this build can read.") from error


def _unpack(image: bytearray) -> tuple[dict[str, Tensor], dict[str, str]]:
    size = int.from_bytes(image[:HEADER_SIZE_BYTES], "little")
    first = HEADER_SIZE_BYTES + size
    header = json.loads(image[HEADER_SIZE_BYTES:first])
    metadata = dict(header.pop("__metadata__", {}))
    return {name: _tensor(image, first, entry) for name, entry in header.items()}, metadata


def _tensor(image: bytearray, first: int, entry: Any) -> Tensor:
    dtype, shape = _BY_NAME[entry["dtype"]], torch.Size(entry["shape"])
    start, end = entry["data_offsets"]
    if not 0 <= start <= end <= len(image) - first or end - start != shape.numel() * dtype.itemsize:
        raise ValueError("offsets do not fit")
    if start == end:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(image, dtype=dtype, count=shape.numel(), offset=first + start).reshape(shape)


def digest_of(tensors: Mapping[str, Tensor]) -> bytes:
    """SHA-256 over tensors sorted by name: name 00, dtype as safetensors writes it 00, shape as JSON 00, raw bytes."""
    digest = sha256()
    for name in sorted(tensors):
        tensor = _plain(tensors[name])
        shape = json.dumps(list(tensor.shape), separators=(",", ":"))
        digest.update(b"\x00".join((name.encode(), DTYPES[tensor.dtype].encode(), shape.encode(), b"")))
        digest.update(_bytes(tensor))
    return digest.digest()


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous()


def _bytes(tensor: Tensor) -> memoryview:
    """The raw bytes of a tensor on this machine, which must be little-endian, as the formats are."""
    if sys.byteorder != "little":
        raise CheckpointMismatchError("Checkpoints are written on little-endian machines only.")
    values: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(values)
