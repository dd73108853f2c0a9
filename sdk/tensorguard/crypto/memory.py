"""Buffers that hold plaintext or keys for a while."""

from __future__ import annotations

import ctypes
import resource
import sys
from typing import TypeAlias

Data: TypeAlias = bytes | bytearray | memoryview
"""Anything whose bytes can be read without a copy."""

_PR_SET_DUMPABLE = 4


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite a writable buffer with zeros, in place."""
    size = len(buffer)
    if size:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), 0, size)


def harden_process() -> None:
    """Keep this process's memory out of core files and away from other processes of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
