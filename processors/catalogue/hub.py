"""Models from a hub: configuration, safetensors and tokenizer files of one commit, checked against its digests."""

from __future__ import annotations

import os
from hashlib import file_digest
from typing import TYPE_CHECKING

from processors.catalogue.files import full_or
from processors.catalogue.folder import choose_names
from processors.errors import (
    HubError,
    HubFileDamagedError,
    HubModelUnknownError,
    HubUnreachableError,
    ModelError,
)

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_UNKNOWN = (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError)
_REFUSED = frozenset({401, 403, 404})


def fetch_model(hub_id: str, revision: str | None, folder: Path) -> str:
    """Download a model's files into a folder; where they came from: ``id@commit``.

    Raises:
        HubUnreachableError: no hub answers, or the environment forbids to ask one.
        HubModelUnknownError: the hub does not show it.
        HubFileDamagedError: a file is not the one that its commit names.
        ModelError: it is no model that may come in.
        CatalogueFullError: there is no space left.
    """
    try:
        info = HfApi().model_info(hub_id, revision=revision, files_metadata=True)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        chosen = choose_names(siblings.keys())
        snapshot_download(hub_id, revision=_commit(info), local_dir=folder, allow_patterns=sorted(chosen))
    except Exception as error:  # the hub's client and its HTTP library have no common root
        raise _meaning(error) from error
    for name in sorted(chosen):
        _check(folder / name, siblings[name])
    return f"{hub_id}@{_commit(info)}"


def _commit(info: ModelInfo) -> str:
    if not info.sha:
        raise HubError("The hub names no commit.")
    return info.sha


def _check(path: Path, sibling: RepoSibling) -> None:
    """Hold a file to the size, and a large one to the SHA-256, that the hub has of it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest() if sibling.lfs else None
    except OSError as error:
        raise HubFileDamagedError(f"{path.name} was not downloaded.") from error
    if sibling.size not in (None, size) or (sibling.lfs and sibling.lfs.sha256 != digest):
        raise HubFileDamagedError(f"{path.name} is not the file that the hub names.")


def _meaning(error: Exception) -> Exception:
    if isinstance(error, ModelError):
        return error
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, _UNKNOWN) or (isinstance(error, HfHubHTTPError) and status in _REFUSED):
        return HubModelUnknownError("The hub shows no such model or revision.")
    if isinstance(error, OSError):
        return full_or(error, _unreachable(error))
    return _unreachable(error)


def _unreachable(error: Exception) -> HubUnreachableError:
    return HubUnreachableError(f"There is no folder of this name, and no hub answers ({type(error).__name__}).")
