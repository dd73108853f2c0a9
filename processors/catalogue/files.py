"""Where the files of registered models lie, how they come there whole, and how they go."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tensorguard.model_manifest import FileDigest, digest_files, manifest_digest

from processors.errors import CatalogueFullError, ModelChangedError, ModelFileRefusedError
from producers.files import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.installation import Installation

_UNFINISHED = ".incoming-"
_BLOCK = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def model_dir(installation: Installation, digest: bytes) -> Path:
    """Where the files of a registered model lie."""
    return models_dir(installation) / digest.hex()


def models_dir(installation: Installation) -> Path:
    """Where all catalogue models lie."""
    return installation.data_dir / "models"


def size_of(installation: Installation, digest: bytes) -> int:
    """The bytes of a registered model's files, which is about what it takes in memory; 0 if it is not here."""
    try:
        return sum(path.stat().st_size for path in model_dir(installation, digest).iterdir())
    except OSError:
        return 0


@contextmanager
def incoming(installation: Installation) -> Iterator[Path]:
    """A folder beside the models for what comes in, gone afterwards; what killed commands left is swept first."""
    models = models_dir(installation)
    models.mkdir(parents=True, exist_ok=True)
    _sweep(models)
    folder = models / f"{_UNFINISHED}{secrets.token_hex(8)}"
    folder.mkdir()
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _sweep(models: Path) -> None:
    """Remove incoming folders that no living process holds."""
    for folder in models.glob(f"{_UNFINISHED}*"):
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(held)


def copy_file(source: Path, target: Path) -> None:
    """Copy a plain file durably.

    Raises:
        CatalogueFullError: no space is left.
        ModelFileRefusedError: it cannot be read.
    """
    try:
        # Opened without following links: what was a plain file a moment ago may have been exchanged.
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as reader, target.open("xb") as writer:
            shutil.copyfileobj(reader, writer, _BLOCK)
            writer.flush()
            os.fsync(writer.fileno())
    except OSError as error:
        raise full_or(error, ModelFileRefusedError(f"{source.name} cannot be copied ({error.strerror}).")) from error


def move_file(source: Path, target: Path) -> None:
    """Move a plain file of the same file system durably.

    Raises:
        ModelFileRefusedError: it cannot be moved.
    """
    try:
        source.rename(target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise ModelFileRefusedError(f"{source.name} cannot be moved.") from error


def full_or(error: OSError, otherwise: Exception) -> Exception:
    """What to raise for a failed file operation: that no space is left, or something else."""
    return CatalogueFullError("There is no space left for the model.") if error.errno in _FULL else otherwise


def settle(folder: Path, installation: Installation, digest: bytes) -> None:
    """Move whole files to their place; those that lie there already must be the same.

    Raises:
        ModelChangedError: they are others.
    """
    target = model_dir(installation, digest)
    if target.exists():
        verify_model(target, digest)
    else:
        sync_folder(folder)
        folder.rename(target)
        sync_folder(target.parent)


def discard(installation: Installation, digest: bytes) -> None:
    """Delete a model's files; none are there under its name before the first of them goes."""
    target = model_dir(installation, digest)
    if target.exists():
        with incoming(installation) as folder:
            target.rename(folder / "model")
            sync_folder(target.parent)


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
