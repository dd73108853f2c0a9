"""The process of one partition's sequencer: ``python -m producers.sequencer --data-dir DIR --partition P``.

Exit codes: 0 told to stop, 1 failed and to be started again, 2 usage, 3 failed and to be looked at first.
"""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path

import structlog
from tensorguard.crypto.memory import harden_process
from tensorguard.errors import TensorGuardError

from producers import logs
from producers.ending import when_told_to_end
from producers.sequencer.process import decide_partition, exit_status


def main() -> int:
    """Decide until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m producers.sequencer", description="Decide a partition's commands.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--partition", type=int, required=True)
    arguments = parser.parse_args()
    stop = threading.Event()
    when_told_to_end(stop.set)
    logs.configure()
    harden_process()
    log = structlog.get_logger("sequencer").bind(partition=arguments.partition)
    try:
        decide_partition(arguments.data_dir.resolve(), arguments.partition, stop)
    except TensorGuardError as error:
        log.exception("sequencer_failed", code=error.code, detail=str(error), next_step=error.next_step)
        return exit_status(error)
    log.info("sequencer_stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
