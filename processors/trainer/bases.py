"""Base models in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from tensorguard.model_manifest import stamps

from processors.catalogue import model_dir, verify_model
from processors.errors import ModelChangedError
from processors.trainer.base_model import SharedBase
from processors.trainer.device import Compute

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from producers.installation import Installation

Key = tuple[bytes, str]
"""A catalogue model's manifest digest, and the type of its weights."""
log = structlog.get_logger(__name__)


class Bases:
    """Base models in memory, each checked against its digests before it is loaded."""

    def __init__(self, installation: Installation, compute: Compute | None = None) -> None:
        self._installation = installation
        self._compute = compute or Compute()
        self._loaded: dict[Key, SharedBase] = {}

    def __len__(self) -> int:
        return len(self._loaded)

    def sizes(self) -> dict[str, int]:
        """The bytes of each base model in memory, by its manifest digest in hex."""
        found: dict[str, int] = {}
        for (digest, _), base in self._loaded.items():
            found[digest.hex()] = found.get(digest.hex(), 0) + base.nbytes
        return found

    def get(self, manifest_digest: bytes, dtype: str = "float32", wanted: Collection[Key] = ()) -> SharedBase:
        """A base model, its weights as numbers of a type.

        To load one takes memory, so those that are not ``wanted`` are let go before.

        Raises:
            ModelChangedError: a file is not the one that was registered.
        """
        key = (manifest_digest, dtype)
        if key not in self._loaded:
            self._release_all_but(wanted)
            directory = model_dir(self._installation, manifest_digest)
            self._loaded[key] = _checked(directory, manifest_digest, self._compute, dtype)
            log.info("base_model_loaded", manifest_digest=manifest_digest.hex(), dtype=dtype)
        return self._loaded[key]

    def _release_all_but(self, wanted: Collection[Key]) -> None:
        for key in self._loaded.keys() - set(wanted):
            del self._loaded[key]
            log.info("base_model_released", manifest_digest=key[0].hex(), dtype=key[1])


def _checked(directory: Path, manifest_digest: bytes, compute: Compute, dtype: str) -> SharedBase:
    """A base model whose files had the right digests and stayed as they were until they were in memory."""
    before = stamps(directory)
    verify_model(directory, manifest_digest)
    base = SharedBase(directory, compute, dtype)
    if stamps(directory) != before:
        raise ModelChangedError("A catalogue model's files changed while they were loaded.")
    return base
