"""Operations that were being executed when the trainer's process died, counted on file across its lives.

An operation that needs more memory than there is does not fail: the kernel ends the whole process, and the next one,
which executes it again, likewise. So what was under way at several deaths in a row is failed instead of executed. Of
samples that were under way together it is not known which one did it: each of them is then generated alone.
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
_ID_BYTES = 16
_COUNT_BYTES = 4


class Suspects:
    """Who is suspected of what; one trainer uses a folder at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._known = folder / "trainer-suspects.json"
        self._deaths, self._lonely = _read(self._known)
        self._file = os.open(folder / "trainer-executing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        match self._under_way():
            case []:
                pass
            case [only]:
                self._suspect(only)
            case several:
                self._lonely = set(several)  # those of an earlier death had their turn first, or are among them
                self._remember()
        self.forgive()

    def _under_way(self) -> list[str]:
        count = int.from_bytes(os.pread(self._file, _COUNT_BYTES, 0), "big")
        ids = os.pread(self._file, count * _ID_BYTES, _COUNT_BYTES)
        return [ids[at : at + _ID_BYTES].hex() for at in range(0, len(ids), _ID_BYTES)]

    def _suspect(self, operation: str) -> None:
        times = self._deaths.pop(operation, 0) + 1
        self._deaths = dict([*self._deaths.items(), (operation, times)][-REMEMBERED:])
        self._remember()

    def _remember(self) -> None:
        self._known.write_text(json.dumps({"deaths": self._deaths, "alone": sorted(self._lonely)}))

    def condemned(self, operation_id: bytes) -> bool:
        """Whether an operation was under way at too many deaths."""
        return self._deaths.get(operation_id.hex(), 0) >= MOST_DEATHS

    def alone(self, operation_id: bytes) -> bool:
        """Whether a sample was under way with others at a death, and has to be generated alone now."""
        return operation_id.hex() in self._lonely

    @property
    def any_alone(self) -> bool:
        """Whether there may be any such sample."""
        return bool(self._lonely)

    def acquit(self, operation_id: bytes) -> None:
        """A sample has its outcome."""
        if self.alone(operation_id):
            self._lonely.discard(operation_id.hex())
            self._remember()

    @contextmanager
    def watching(self, *operation_ids: bytes) -> Iterator[None]:
        """Suspect operations should the process die within the block; another error clears them."""
        os.pwrite(self._file, len(operation_ids).to_bytes(_COUNT_BYTES, "big") + b"".join(operation_ids), 0)
        try:
            yield
        finally:
            self.forgive()

    def forgive(self) -> None:
        """Nothing is under way, or what is has no part in the end that comes now."""
        os.pwrite(self._file, bytes(_COUNT_BYTES), 0)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


def _read(path: Path) -> tuple[dict[str, int], set[str]]:
    try:
        found = json.loads(path.read_text())
        deaths = {str(key): int(value) for key, value in found["deaths"].items()}
        return deaths, set(map(str, found["alone"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}, set()
