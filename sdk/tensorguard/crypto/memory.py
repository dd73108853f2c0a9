"""Buffers that hold plaintext or keys for a while."""

from __future__ import annotations

import ctypes
from typing import TypeAlias

Data: TypeAlias = bytes | bytearray | memoryview
"""Anything whose bytes can be read without a copy."""


def wipe(buffer: bytearray | memoryview) -> None:
    """Overwrite a writable buffer with zeros, in place."""
    size = len(buffer)
    if size:
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), 0, size)
