"""Models that runs shall be able to start from."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Command
from schemas.types import ModelFile


@dataclass(frozen=True, slots=True)
class RegisterModel(Command):
    """Register a model with the digests of all its files."""

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
class RemoveModel(Command):
    """Take a model out of the catalogue."""

    name: str
    manifest_digest: bytes
