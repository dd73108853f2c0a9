from __future__ import annotations

from pathlib import Path

import pytest

from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobStore:
    return FileBlobStore(tmp_path / "blobs")


@pytest.fixture
def keys(tmp_path: Path) -> FileKeyProvider:
    return FileKeyProvider(tmp_path / "keys")
