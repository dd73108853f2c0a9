"""What a process that computes with torch on a CPU has in its environment, beside what its user set."""

from __future__ import annotations

from typing import Final

MIB = 1 << 20
TUNING: Final = {
    # Threads of libgomp that wait for one another look for some ten microseconds, then sleep. By default they look for
    # milliseconds, and take the core from the one they wait for when other processes want it too: 2 to 8 times
    # slower. Those that never look are a third slower when nobody else wants it.
    "GOMP_SPINCOUNT": "3000",
    # What a step frees stays with the process for the next one, instead of going back to the kernel page by page; what
    # is larger, such as a base model that is not needed any more, does go back.
    "MALLOC_TRIM_THRESHOLD_": str(256 * MIB),
    "MALLOC_MMAP_THRESHOLD_": str(64 * MIB),
}
"""Read by libgomp and glibc when the process starts; other libraries pay no heed to it."""
