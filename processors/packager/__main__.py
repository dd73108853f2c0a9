"""The packager's process: ``python -m processors.packager --data-dir DIR``. It makes packages and exports.

It loads no tensor library; weights are merged in a process of their own.

Exit codes: 0 told to stop, 1 failed, 2 usage.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from tensorguard.crypto.composite import PRIVATE_BYTES, CompositePrivateKey
from tensorguard.crypto.memory import harden_process
from tensorguard.errors import TensorGuardError

from processors.blobs.file import FileBlobStore
from processors.exporter.exporter import Exporter
from processors.exporter.store import ExportStore, blobs_of
from processors.exporter.workbench import Workbench as ExportBench
from processors.keys.file import FileKeyProvider
from processors.packager.packager import Packager
from processors.packager.workbench import Workbench
from processors.runners.embedded import EmbeddedRunner
from producers import logs
from producers.installation import Installation
from producers.secretfiles import read_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from processors.base import Processor

SWEEP_SECONDS = 30.0
NAP_SECONDS = 0.2
"""How much later an order may be seen, so that training does not wake this process for each of its records."""
log = structlog.get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m processors.packager", description="Make model packages.")
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logs.configure()
    harden_process()
    try:
        installation = Installation.open(arguments.data_dir)
        engine = installation.engine(NAP_SECONDS)
        processors: list[Processor] = [Packager(workbench_of(installation)), Exporter(ExportBench.of(installation))]
        blobs_of(installation).sweep()  # what killed writers left
        sweeping = (ExportStore.of(installation), installation.clock, stop)
        threading.Thread(target=sweep_exports, args=sweeping, daemon=True).start()
        EmbeddedRunner(installation, engine, processors).run(stop)
        installation.close()
    except TensorGuardError as error:
        log.exception("packager_failed", code=error.code, detail=str(error))
        return error.exit_code
    return 0


def sweep_exports(store: ExportStore, clock: Callable[[], int], stop: threading.Event) -> None:
    """Destroy exports when their time is over, until told to stop."""
    while True:
        try:
            store.sweep(clock())
        except (TensorGuardError, OSError) as error:
            log.warning("exports_not_swept", code=getattr(error, "code", "os_error"))
        if stop.wait(SWEEP_SECONDS):
            return


def workbench_of(installation: Installation) -> Workbench:
    """The workbench on an installation's folders and keys; what killed writers left in them is swept."""
    packages = FileBlobStore(installation.data_dir / "packages")
    packages.sweep()
    seeds = read_secret(installation.artifact_signing_key, PRIVATE_BYTES)
    return Workbench(
        checkpoints=FileBlobStore(installation.blobs_dir),
        packages=packages,
        scratch=packages.root,
        keys=FileKeyProvider.of(installation),
        signing_key=CompositePrivateKey(seeds),
    )


if __name__ == "__main__":
    sys.exit(main())
