"""Models that runs may start from."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Event
from schemas.types import ModelFile


@dataclass(frozen=True, slots=True)
class ModelRegistered(Event):
    """A model with the digests of all its files."""

    name: str
    architecture: str
    files: tuple[ModelFile, ...]
    manifest_digest: bytes
    tokenizer_digest: bytes
    vocabulary_size: int
    max_positions: int
    parameters: int
    dtype: str = "float32"
    source: str | None = None
    has_chat_template: bool = False


@dataclass(frozen=True, slots=True)
class ModelRemoved(Event):
    """A name is free again; no run can start from it."""

    name: str
    manifest_digest: bytes
