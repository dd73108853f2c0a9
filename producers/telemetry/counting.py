"""Counters of several processes of one server, added up by whichever of them is asked.

Each process keeps what it counts in files that it maps into its memory (the way of ``prometheus_client`` where
``PROMETHEUS_MULTIPROC_DIR`` names a folder), so that it stays counted when the process has died. Who supervises the
processes names the folder: one for itself, since process ids tell processes apart on one machine alone.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.core import Metric

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def counting_together(data_dir: Path) -> Mapping[str, str]:
    """What the processes of a server need in their environment; what ended servers of this machine counted is gone."""
    root = data_dir / "run" / "metrics"
    for left in root.glob(f"{socket.gethostname()}-*"):
        if not Path("/proc", left.name.rpartition("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = root / f"{socket.gethostname()}-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return {VARIABLE: str(folder)}


class Together:
    """Collects what all processes have counted whose folders lie beside this process's."""

    @staticmethod
    def of_this_process() -> Together | None:
        """None where a process counts for itself."""
        folder = os.environ.get(VARIABLE)
        return Together(Path(folder).parent) if folder else None

    def __init__(self, root: Path) -> None:
        self._root = root

    def describe(self) -> Iterable[Metric]:
        """Nothing before it is asked."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Every counter and histogram, added up."""
        files = [str(path) for path in self._root.glob("*/*.db")]
        return MultiProcessCollector.merge(files, accumulate=True)  # type: ignore[no-untyped-call, no-any-return]
