"""The catalogue: models copied in once, named by the digest of all their files, and checked again before each use.

A client names a catalogue entry, never a path. Only safetensors, configuration and tokenizer files come in; nothing
that could run code.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tensorguard.model_manifest import (
    TOKENIZER_FILES,
    FileDigest,
    digest_files,
    manifest_digest,
    tokenizer_digest,
)

from processors.errors import (
    CatalogueFullError,
    ModelChangedError,
    ModelError,
    ModelFileRefusedError,
    ModelNameError,
    ModelNotFoundError,
    PickledWeightsError,
    TokenizerMissingError,
)
from producers.files import sync_folder
from producers.identities import make_envelope
from schemas.commands import RegisterModel
from schemas.events import ModelRegistered
from schemas.types import ModelFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.installation import Installation
    from producers.submitter import Submitter

PLATFORM = "platform"
CONFIG = "config.json"
_MODEL_FILES = frozenset({CONFIG, "generation_config.json", "model.safetensors.index.json"})
_PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack"})
_TOKENIZERS = ({"tokenizer.json"}, {"tokenizer.model"}, {"vocab.json", "merges.txt"}, {"vocab.txt"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LONGEST_HEADER = 100 << 20
_BLOCK = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def model_dir(installation: Installation, digest: bytes) -> Path:
    """Where the files of a registered model lie."""
    return installation.data_dir / "models" / digest.hex()


def register_model(installation: Installation, submitter: Submitter, name: str, path: Path) -> ModelRegistered:
    """Copy a model's folder into the catalogue and register it under a name; again is no error if nothing changed.

    Raises:
        ModelError: the folder is no model that may come in; each reason has its own class.
        RejectedError: the name belongs to other files.
    """
    if not _NAME.fullmatch(name):
        raise ModelNameError("That is no name for a catalogue model.")
    _, command = take_in(installation, name, path)
    submitter.ensure_chain(PLATFORM)
    envelope = make_envelope(
        command,
        chain=PLATFORM,
        stream=f"model/{name}",
        command_id=sha256(b"tensorguard/register\x00" + name.encode() + b"\x00" + command.manifest_digest).digest()[
            :16
        ],
        now=installation.clock(),
    )
    reply = submitter.submit_and_wait(installation.producer("authority"), envelope)
    reply.raise_for_outcome()
    return ModelRegistered(**{field.name: getattr(command, field.name) for field in fields(command)})


def take_in(installation: Installation, name: str, path: Path) -> tuple[Path, RegisterModel]:
    """Copy a model's files to their place and describe them; nothing is there before all of them are.

    Raises:
        ModelError: see :func:`register_model`.
    """
    models = installation.data_dir / "models"
    models.mkdir(parents=True, exist_ok=True)
    incoming = models / f".incoming-{secrets.token_hex(8)}"
    try:
        incoming.mkdir()
        for source in choose_files(path):
            _copy(source, incoming / source.name)
        sync_folder(incoming)
        command = describe(name, incoming)
        target = model_dir(installation, command.manifest_digest)
        _settle(incoming, target, command.manifest_digest)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    sync_folder(models)
    return target, command


def _settle(incoming: Path, target: Path, digest: bytes) -> None:
    if target.exists():
        verify_model(target, digest)
    else:
        incoming.rename(target)


def choose_files(path: Path) -> list[Path]:
    """The files of a folder that a catalogue model consists of, sorted by name; others stay behind.

    Raises:
        ModelNotFoundError, PickledWeightsError, ModelFileRefusedError, TokenizerMissingError: it may not come in.
    """
    if not path.is_dir():
        raise ModelNotFoundError(f"{path} is no folder.")
    entries = sorted(path.iterdir())
    for entry in entries:
        _check_entry(entry)
    chosen = [entry for entry in entries if _belongs(entry.name)]
    names = {entry.name for entry in chosen}
    if CONFIG not in names or not any(name.endswith(".safetensors") for name in names):
        raise ModelNotFoundError(f"{path} has no {CONFIG} with .safetensors weights.")
    if not any(tokenizer <= names for tokenizer in _TOKENIZERS):
        raise TokenizerMissingError(f"{path} has no tokenizer.")
    return chosen


def _check_entry(entry: Path) -> None:
    if entry.suffix in _PICKLED:
        raise PickledWeightsError(f"{entry.name} is not in a format without code.")
    if _belongs(entry.name) and (entry.is_symlink() or not entry.is_file()):
        raise ModelFileRefusedError(f"{entry.name} is no plain file.")


def _belongs(name: str) -> bool:
    return name in _MODEL_FILES or name in TOKENIZER_FILES or name.endswith(".safetensors")


def _copy(source: Path, target: Path) -> None:
    try:
        # Opened without following links: what was a plain file a moment ago may have been exchanged.
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as reader, target.open("xb") as writer:
            shutil.copyfileobj(reader, writer, _BLOCK)
            writer.flush()
            os.fsync(writer.fileno())
    except OSError as error:
        if error.errno in _FULL:
            raise CatalogueFullError("There is no space left for the model.") from error
        raise ModelFileRefusedError(f"{source.name} cannot be copied.") from error


def describe(name: str, directory: Path) -> RegisterModel:
    """What the ledger says of a model's files.

    Raises:
        ModelError: config or weights cannot be read.
    """
    config = _read_config(directory)
    digests = digest_files(directory)
    return RegisterModel(
        name=name,
        architecture=config.architecture,
        files=tuple(ModelFile(d.path, bytes.fromhex(d.sha256), d.size_bytes) for d in digests),
        manifest_digest=manifest_digest(digests),
        tokenizer_digest=tokenizer_digest(digests),
        vocabulary_size=config.vocabulary_size,
        max_positions=config.max_positions,
        parameters=sum(_elements(entry["shape"]) for _, entry in stored_tensors(directory)),
    )


@dataclass(frozen=True, slots=True)
class _Config:
    architecture: str
    vocabulary_size: int
    max_positions: int


def _read_config(directory: Path) -> _Config:
    try:
        value = json.loads((directory / CONFIG).read_bytes())
        positions = value.get("max_position_embeddings") or value.get("n_positions")
        return _Config(str(value["architectures"][0]), int(value["vocab_size"]), int(positions))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ModelError(f"{CONFIG} names no architecture, vocabulary size and number of positions.") from error


def stored_tensors(directory: Path) -> Iterator[tuple[str, Any]]:
    """Names and entries (dtype, shape) of all tensors in a folder's safetensors files; weights are not read.

    Raises:
        ModelError: a file is no safetensors file.
    """
    for path in sorted(directory.glob("*.safetensors")):
        try:
            yield from _header(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
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


def _elements(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def linear_modules(directory: Path) -> frozenset[str]:
    """The last parts of the names of modules with a weight matrix: what ``target_modules`` may name."""
    names = (name.split(".") for name, entry in stored_tensors(directory) if len(entry["shape"]) > 1)
    return frozenset(parts[-2] for parts in names if parts[-1] == "weight" and len(parts) > 1)


def verify_model(directory: Path, digest: bytes) -> list[FileDigest]:
    """Hash all files of a catalogue model again; what was found.

    Raises:
        ModelChangedError: a file is missing, added or not what was registered.
    """
    try:
        found = digest_files(directory)
    except OSError as error:
        raise ModelChangedError("A catalogue model's files cannot be read.") from error
    if manifest_digest(found) != digest:
        raise ModelChangedError("A catalogue model's files are not those that were registered.")
    return found
