"""Where and how a process computes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from tensorguard.errors import UsageError

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True, slots=True)
class Compute:
    """Device ("cpu", "cuda", "cuda:N", or "auto": a GPU where there is one), attention kernel, gradient checkpointing.

    ``deterministic`` takes only kernels that give the same bits each time.
    """

    device: str = "cpu"
    attention: str = "sdpa"
    gradient_checkpointing: bool = False
    deterministic: bool = False


def device_of(name: str) -> torch.device:
    """A device by its name.

    Raises:
        UsageError: this machine has no such device.
    """
    wanted = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"TG_DEVICE is {name}, which this machine does not have.")
    return device


def prepare(compute: Compute) -> None:
    """Set the process up, before the first kernel runs.

    Raises:
        UsageError: this machine has no such device.
    """
    device_of(compute.device)
    if compute.deterministic:
        os.environ.setdefault(_CUBLAS, ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
        torch.backends.cudnn.benchmark = False


def settle_vector_math() -> None:
    """Let this thread be the first in the process that asks MKL's vector functions for anything; a repetition is free.

    torch spreads a sine over its threads. Where two of them are MKL's first callers, one now and then (in up to two of
    a thousand processes seen) is given a cosine that is right to four digits only, once: enough that a process that
    begins by computing steps again gives another adapter.
    """
    torch.sin(torch.zeros(1))


def memory_of(name: str, trainers: int = 1) -> int:
    """The bytes that each of so many trainers may use: its part of the device's memory, or of this machine's.

    Raises:
        UsageError: this machine has no such device.
    """
    device = device_of(name)
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else machine_bytes()
    return int(total) // trainers


def machine_bytes(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory that the processes of this container or machine may use together, in bytes."""
    limits = [_limit(groups / name) for name in ("memory.max", "memory/memory.limit_in_bytes")]
    return min([os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), *filter(None, limits)])


def _limit(path: Path) -> int | None:
    """What a control group is held to; None without a limit, or without such a file."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
