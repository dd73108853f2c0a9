"""Fetching a model's tokenizer once: its files are kept by the digest that the ledger has, and checked at every use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from tensorguard.model_manifest import TOKENIZER_FILES, FileDigest, tokenizer_digest

from tg_tinker import flows
from tg_tinker.errors import TokenizerChangedError, TokenizerError
from tg_tinker.flows import Flow, Surroundings
from tg_tinker.types import TokenizerInfo


def default_cache(environment: Mapping[str, str] = os.environ) -> Path:
    """Where tokenizers are kept: ``tensorguard/tokenizers`` below ``XDG_CACHE_HOME``, or below ``~/.cache``."""
    root = environment.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "tensorguard" / "tokenizers"


def fetch(around: Surroundings, model: str, cache: Path, manifest_digest: str | None = None) -> Flow[dict[str, bytes]]:
    """The content of a tokenizer's files by name, from the cache as far as they are there.

    Args:
        around: what flows take from outside.
        model: name of a catalogue model.
        cache: folder that tokenizers are kept in.
        manifest_digest: of the very model that is meant, as hex; None: whatever the name means now.

    Raises:
        UnknownModelError: the catalogue has no such model.
        TokenizerChangedError: what came is not what the ledger names, or the name means another model now.
        TokenizerError: the cache cannot be written.
    """
    info = yield from flows.get(around, TokenizerInfo, flows.at("models", model, "tokenizer"))
    files = _checked(info, manifest_digest)
    folder = cache / info.tokenizer_digest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        contents = {}
        for file in files:
            contents[file.path] = yield from _content(around, model, folder / file.path, file)
    except OSError as error:
        raise TokenizerError(
            f"The tokenizer cannot be kept ({error.strerror}).", next_step="Give a cache_dir that can be written to."
        ) from error
    return contents


def _checked(info: TokenizerInfo, manifest_digest: str | None) -> list[FileDigest]:
    files = [FileDigest(each.path, each.sha256, each.size_bytes) for each in info.files]
    # The names become paths below the cache: only those that a tokenizer has are believed.
    if not {file.path for file in files} <= TOKENIZER_FILES or tokenizer_digest(files).hex() != info.tokenizer_digest:
        raise TokenizerChangedError("The files that the server lists do not give the tokenizer's digest.")
    if manifest_digest not in (None, info.manifest_digest):
        raise TokenizerChangedError(
            "The catalogue's name stands for another model than the one the run was created on.",
            next_step="Create a new training client, or ask the operator for the model's former files.",
        )
    return files


def _content(around: Surroundings, model: str, path: Path, file: FileDigest) -> Flow[bytes]:
    kept = _intact(path, file)
    if kept is None:
        yield from flows.download(around, flows.at("models", model, "tokenizer", file.path), path)
        kept = _intact(path, file)
    if kept is None:
        path.unlink(missing_ok=True)
        raise TokenizerChangedError(f"{file.path} came with another digest than the ledger has.")
    return kept


def _intact(path: Path, file: FileDigest) -> bytes | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return content if sha256(content).hexdigest() == file.sha256 else None
