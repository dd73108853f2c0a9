"""The packager's process: ``python -m processors.packager --data-dir DIR``. It makes packages and exports.

It loads no tensor library; weights are merged in a process of their own.

Exit codes: 0 told to stop, 1 failed, 2 usage.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from tensorguard.crypto.memory import harden_process
from tensorguard.errors import TensorGuardError

from processors.exporter.exporter import Exporter
from processors.exporter.sweeping import keep_swept
from processors.exporter.workbench import Workbench as ExportBench
from processors.packager.packager import Packager
from processors.packager.workbench import Workbench
from processors.runners.embedded import EmbeddedRunner
from producers import logs
from producers.ending import when_told_to_end
from producers.installation import Installation

if TYPE_CHECKING:
    from processors.base import Processor

NAP_SECONDS = 0.2
"""How much later an order may be seen, so that training does not wake this process for each of its records."""
log = structlog.get_logger(__name__)


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m processors.packager", description="Make model packages.")
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    when_told_to_end(stop.set)
    logs.configure()
    harden_process()
    try:
        installation = Installation.open(arguments.data_dir)
        engine = installation.engine(NAP_SECONDS)
        processors: list[Processor] = [Packager(Workbench.of(installation)), Exporter(ExportBench.of(installation))]
        keep_swept(installation, stop)
        EmbeddedRunner(installation, engine, processors).run(stop)
        installation.close()
    except TensorGuardError as error:
        log.exception("packager_failed", code=error.code, detail=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
