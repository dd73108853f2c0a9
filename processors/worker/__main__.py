"""A worker on Kafka: ``python -m processors.worker --data-dir DIR``; any number of them share the ledger's chains.

What it is doing when it is told to stop ends with it: whoever gets its chains does that again.

Exit codes: 0 told to stop, 1 failed, 2 usage.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import structlog
from tensorguard.crypto.memory import harden_process
from tensorguard.errors import TensorGuardError, UsageError

from processors.exporter.sweeping import keep_swept
from processors.runners.crew import Crew
from processors.runners.faust_app import LEAVING_SECONDS, make_app, work
from processors.worker.kinds import kinds_of
from producers import logs
from producers.installation import Installation
from producers.settings import read

log = structlog.get_logger(__name__)


def main() -> int:
    """Work until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m processors.worker", description="Work on a ledger on Kafka.")
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    logs.configure()
    harden_process()
    try:
        # Not asyncio.run, which would wait for threads that do what nobody waits for.
        asyncio.new_event_loop().run_until_complete(_work(arguments.data_dir))
    except TensorGuardError as error:
        log.exception("worker_failed", code=error.code, detail=str(error))
        return error.exit_code
    except Exception as error:
        log.exception("worker_failed", error=type(error).__name__)
        return 1
    return 0


async def _work(data_dir: Path) -> None:
    if read(data_dir).settings.embedded:
        raise UsageError(
            "Workers are for a ledger on Kafka.", next_step="Set TG_LOG_URL, or let `tensorguard server` do their work."
        )
    installation, stop = Installation.open(data_dir), asyncio.Event()
    crew = Crew(installation, installation.engine(), kinds_of(installation))
    keep_swept(installation, threading.Event())
    for number in (signal.SIGTERM, signal.SIGINT):  # Before, there is nothing to leave.
        asyncio.get_running_loop().add_signal_handler(number, _leave, stop)
    await work(make_app(installation.settings, crew), crew, stop)


def _leave(stop: asyncio.Event) -> None:
    """Leave the group, and if that takes long, without a word: it notices by itself."""
    stop.set()
    asyncio.get_running_loop().call_later(LEAVING_SECONDS, _end, 0)


def _end(code: int) -> None:
    """End now, in the middle of whatever threads are at."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main())
