"""The digest that names a base model: over the paths, digests and sizes of all its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

TOKENIZER_FILES = frozenset(
    {
        "added_tokens.json",
        "chat_template.jinja",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)


@dataclass(frozen=True, slots=True, order=True)
class FileDigest:
    """One file: POSIX path relative to the model's folder, SHA-256 as hex, size in bytes."""

    path: str
    sha256: str
    size_bytes: int


def manifest_digest(files: Iterable[FileDigest]) -> bytes:
    """SHA-256 of the canonical JSON of all files, sorted by path: 32 bytes.

    Canonical: UTF-8, keys sorted, no spaces, non-ASCII as it is.
    """
    entries = [asdict(entry) for entry in sorted(files)]
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).digest()


def tokenizer_digest(files: Iterable[FileDigest]) -> bytes:
    """The manifest digest over the tokenizer's files alone: 32 bytes."""
    return manifest_digest(entry for entry in files if entry.path in TOKENIZER_FILES)


def digest_files(folder: Path) -> list[FileDigest]:
    """Hash every regular file below a folder, sorted by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return sorted(_digest(folder, path) for path in paths)


def _digest(folder: Path, path: Path) -> FileDigest:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return FileDigest(path.relative_to(folder).as_posix(), digest, file.tell())
