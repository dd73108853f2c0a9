"""Memory for plaintext weights: never in a file, never swapped, never in a core file, zero when it is done with."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tensorguard.crypto.memory import wipe

from edge.errors import MemoryNotLockedError

if TYPE_CHECKING:
    from types import TracebackType

SWAPS = Path("/proc/swaps")
_LIBC = ctypes.CDLL(None, use_errno=True)


class LockedMemory:
    """Anonymous memory of a size in bytes, locked; a context manager that wipes it."""

    def __init__(self, size: int, *, swaps: Path = SWAPS) -> None:
        """Take the memory.

        Raises:
            MemoryNotLockedError: the kernel refuses to lock it, and the machine has swap space.
        """
        self._map = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_DONTDUMP, mmap.MADV_DONTFORK):
            self._map.madvise(advice)
        self.locked = self._lock()
        if not self.locked and _has_swap(swaps):
            raise MemoryNotLockedError(f"{size} bytes of memory cannot be locked.")
        self.view = memoryview(self._map)[:size]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()

    def wipe(self) -> None:
        """Overwrite everything. The memory goes back when its last user lets go of it."""
        wipe(memoryview(self._map))

    def _lock(self) -> bool:
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        return int(_LIBC.mlock(ctypes.c_void_p(address), ctypes.c_size_t(len(self._map)))) == 0


def _has_swap(swaps: Path) -> bool:
    """Whether there is any swap space; if that cannot be known, there is."""
    try:
        return len(swaps.read_text().strip().splitlines()) > 1
    except OSError:
        return True
