"""Tensors as bytes: one safetensors image, and the digest of an adapter."""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from tensorguard.tgsp.errors import PackageMalformedError
from tensorguard.tgsp.tensors import Slice, build_header, parse

from processors.trainer.errors import CheckpointMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytearray:
    """A safetensors image: the one copy of the tensors' values that is made."""
    held = {name: _plain(tensors[name]) for name in sorted(tensors)}
    slices = {name: Slice(DTYPES[t.dtype], tuple(t.shape), 0, t.nbytes) for name, t in held.items()}
    header = build_header(slices, metadata)
    image = bytearray(len(header) + sum(tensor.nbytes for tensor in held.values()))
    image[: len(header)] = header
    view, at = memoryview(image), len(header)
    for tensor in held.values():
        view[at : at + tensor.nbytes] = _bytes(tensor)
        at += tensor.nbytes
    return image


def unpack(image: bytearray) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Copies of the tensors, and the metadata.

    Raises:
        CheckpointMismatchError: the bytes are no image of ours.
    """
    try:
        slices, metadata = parse(image)
        return {name: _tensor(image, found) for name, found in slices.items()}, metadata
    except (PackageMalformedError, KeyError) as error:
        raise CheckpointMismatchError("The checkpoint holds no tensors that this build can read.") from error


def _tensor(image: bytearray, found: Slice) -> Tensor:
    dtype, shape = _BY_NAME[found.dtype], torch.Size(found.shape)
    if not shape.numel():
        return torch.empty(shape, dtype=dtype)
    # Not frombuffer with an offset: that wants the offset aligned to the type, which a foreign header may not keep.
    raw = torch.frombuffer(image, dtype=torch.uint8, count=found.end - found.start, offset=found.start)
    return raw.clone().view(dtype).reshape(shape)


def digest_of(tensors: Mapping[str, Tensor]) -> bytes:
    """SHA-256 over tensors sorted by name: name 00, dtype as safetensors writes it 00, shape as JSON 00, raw bytes."""
    digest = sha256()
    for name in sorted(tensors):
        tensor = _plain(tensors[name])
        shape = json.dumps(list(tensor.shape), separators=(",", ":"))
        digest.update(b"\x00".join((name.encode(), DTYPES[tensor.dtype].encode(), shape.encode(), b"")))
        digest.update(_bytes(tensor))
    return digest.digest()


def raw_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor as safetensors holds them; a view where it lies in memory in order."""
    return _bytes(_plain(tensor))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous()


def _bytes(tensor: Tensor) -> memoryview:
    """The raw bytes of a tensor on this machine, which must be little-endian, as the formats are."""
    if sys.byteorder != "little":
        raise CheckpointMismatchError("Checkpoints are written on little-endian machines only.")
    values: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(values)
