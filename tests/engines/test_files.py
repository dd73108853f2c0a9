"""Files that are replaced as a whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from producers.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path


def test_threads_that_replace_one_file_at_once_each_write_it_whole(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [bytes([i]) * 20_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(40):
            list(pool.map(lambda data: replace_file(path, data), contents))
            assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
