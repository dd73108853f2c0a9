"""Operations that were being executed when the trainer's process died, counted on file across its lives.

An operation that needs more memory than there is does not fail: the kernel ends the whole process, and the next one,
which executes it again, likewise. So what was under way at several deaths in a row is failed instead of executed.
Nothing here is synced: it has to outlive the process, not the machine.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_DEATHS = 3
"""At so many deaths an operation is no longer executed."""
REMEMBERED = 64
ID_BYTES = 16
_NOTHING = bytes(ID_BYTES)


class Suspects:
    """Who is suspected of what; one trainer uses a folder at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._known = folder / "trainer-suspects.json"
        self._deaths = _read(self._known)
        self._file = os.open(folder / "trainer-executing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        under_way = os.pread(self._file, ID_BYTES, 0)
        if len(under_way) == ID_BYTES and under_way != _NOTHING:
            self._suspect(under_way.hex())
        self.forgive()

    def _suspect(self, operation: str) -> None:
        times = self._deaths.pop(operation, 0) + 1
        self._deaths = dict([*self._deaths.items(), (operation, times)][-REMEMBERED:])
        self._known.write_text(json.dumps(self._deaths))

    def condemned(self, operation_id: bytes) -> bool:
        """Whether an operation was under way at too many deaths."""
        return self._deaths.get(operation_id.hex(), 0) >= MOST_DEATHS

    @contextmanager
    def watching(self, operation_id: bytes) -> Iterator[None]:
        """Suspect an operation should the process die within the block; another error clears it."""
        os.pwrite(self._file, operation_id, 0)
        try:
            yield
        finally:
            self.forgive()

    def forgive(self) -> None:
        """Nothing is under way, or what is has no part in the end that comes now."""
        os.pwrite(self._file, _NOTHING, 0)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


def _read(path: Path) -> dict[str, int]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): int(value) for key, value in found.items()} if isinstance(found, dict) else {}
