"""The digest that names a base model: over the paths, digests and sizes of all its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from errno import EINVAL
from hashlib import file_digest, sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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
    """Hash every file below a folder, sorted by path.

    Raises:
        OSError: a file cannot be read, or something else stands there (a pipe, a link to a folder), whose content no
            digest would cover.
    """
    return sorted(_digest(folder, path) for path in _files(folder))


def stamps(folder: Path) -> dict[str, tuple[int, int, int, int, int]]:
    """Of every file below a folder device, inode, size, and when content and inode last changed (nanoseconds).

    Equal before the files are hashed and after they are loaded, what was loaded is what was hashed: nobody but the
    kernel sets the time of the last change.
    """
    found = {}
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except OSError:
            found[str(path)] = (0, 0, 0, 0, 0)
        else:
            found[str(path)] = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path
        elif path.is_symlink() or not path.is_dir():
            raise OSError(EINVAL, "Neither a file nor a folder", str(path))


def _digest(folder: Path, path: Path) -> FileDigest:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return FileDigest(path.relative_to(folder).as_posix(), digest, file.tell())
