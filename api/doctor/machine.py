"""The machine: cores, memory, disk, port, clock."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from api.doctor.findings import Finding, failed, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from producers.settings import Settings

GIB = 1 << 30
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 4 * GIB, GIB
LITTLE_DISK, TOO_LITTLE_DISK = 10 * GIB, GIB
SLOW_SYNC_SECONDS = 0.05
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def look(data_dir: Path, settings: Settings, *, server_runs: bool) -> Iterator[Finding]:
    """Everything about the machine."""
    yield cores(len(os.sched_getaffinity(0)))
    yield memory(_memory_available())
    folder = _existing(data_dir)
    yield disk(folder, shutil.disk_usage(folder).free)
    yield syncing(folder)
    yield port(settings.host, settings.port, server_runs=server_runs)


def cores(count: int) -> Finding:
    """Doors and trainer want a core each."""
    if count < 2:  # noqa: PLR2004 -- see above
        return warning("cores", f"{count} core may be used.", "Give it two: training and the doors take turns on one.")
    return ok("cores", f"{count} cores may be used.")


def memory(available: int) -> Finding:
    """A tiny model needs half a GiB beside the server."""
    detail = f"{available / GIB:.1f} GiB of memory are free."
    if available < TOO_LITTLE_MEMORY:
        return failed(
            "memory", detail, "Free memory, or take a larger machine: trainer and server need 1 GiB at least."
        )
    if available < LITTLE_MEMORY:
        return warning("memory", detail, "Expect room for small models alone.")
    return ok("memory", detail)


def disk(folder: Path, free: int) -> Finding:
    """Checkpoints and models need room; a full disk stops the ledger."""
    detail = f"{free / GIB:.1f} GiB are free where {folder} is."
    if free < TOO_LITTLE_DISK:
        return failed("disk", detail, "Free space, or move the data directory: a full disk stops every change.")
    if free < LITTLE_DISK:
        return warning("disk", detail, "Free space before models and checkpoints fill it.")
    return ok("disk", detail)


def syncing(folder: Path) -> Finding:
    """Whether what is written reaches the disk, and how long it takes: every decision waits for it."""
    try:
        seconds = _seconds_to_sync(folder)
    except OSError as error:
        step = "Put the data directory on a local disk that this user may write to."
        return failed("fsync", f"{folder} cannot be written durably ({error.strerror}).", step)
    detail = f"A durable write takes {seconds * 1000:.1f} ms."
    if seconds > SLOW_SYNC_SECONDS:
        return warning("fsync", detail, "Put the data directory on a faster disk: every decision waits for one.")
    return ok("fsync", detail)


def port(host: str, number: int, *, server_runs: bool) -> Finding:
    """Whether the server's address can be listened on, or is this data directory's server's."""
    if number == 0:
        return ok("port", "Any free port is taken.")
    if server_runs:
        return ok("port", "A server of this data directory is running.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            step = "Set TG_HOST and TG_PORT to an address of this machine that is free, or stop what listens there."
            return failed("port", f"Nothing can listen on {host} port {number} ({error.strerror}).", step)
    return ok("port", f"{host} port {number} is free.")


def _seconds_to_sync(folder: Path) -> float:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        began = time.monotonic()
        file.write(b"durable?")
        file.flush()
        os.fsync(file.fileno())
        return time.monotonic() - began


def _memory_available() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) << 10
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return min(free, int(limit)) if limit.isdecimal() else free


def _existing(path: Path) -> Path:
    path = path.resolve()
    return path if path.is_dir() else _existing(path.parent)
