"""The trainer's process: ``python -m processors.trainer --data-dir DIR --worker-id ID``.

It ends when the hub of the exchange is gone, and on SIGTERM after the operation under way.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import structlog
from tensorguard.crypto.memory import harden_process
from tensorguard.errors import TensorGuardError

from processors.exchange.trainer import TrainerClient
from processors.placement.opening import kafka_roster
from processors.placement.standing import Standing
from processors.trainer.announcing import Announcements, ExchangeAnnouncer
from processors.trainer.device import prepare
from processors.trainer.ending import Ending
from processors.trainer.settings import Settings
from processors.trainer.suspects import FOLDER, Suspects
from processors.trainer.worker import Worker
from producers import logs
from producers.installation import Installation
from producers.settings.about import TRAINER
from producers.telemetry.traces import Tracing


def main() -> int:
    """Run the worker as the arguments say; the exit code."""
    arguments = _arguments()
    logs.configure()
    # Ctrl-C reaches every process of the terminal; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ending = Ending()
    suspects = Suspects(arguments.data_dir / "run" / FOLDER)
    try:
        channel = TrainerClient(arguments.data_dir, arguments.worker_id, on_close=lambda: _hub_gone(suspects))
        harden_process()
        installation = Installation.open(arguments.data_dir)
        _train(installation, channel, arguments.worker_id, ending, suspects)
    except TensorGuardError as error:
        structlog.get_logger(__name__).error("trainer_failed", code=error.code, detail=str(error))
        return error.exit_code
    return 0


def _train(installation: Installation, channel: TrainerClient, worker: str, ending: Ending, suspects: Suspects) -> None:
    settings = Settings.of(installation.settings)
    prepare(settings.compute)
    standing = Standing(worker, installation.clock(), memory=settings.memory)
    with (
        closing(Tracing.to(installation.settings.otlp_endpoint, TRAINER)) as tracing,
        closing(kafka_roster(installation.settings) or ExchangeAnnouncer(channel)) as announcer,
        Announcements(announcer, standing) as announcements,
    ):
        ending.then(announcements.leaving)
        Worker(
            installation,
            channel,
            worker,
            ending.stop,
            settings,
            tracing=tracing,
            suspects=suspects,
            announcements=announcements,
        ).run()


def _hub_gone(suspects: Suspects) -> None:
    suspects.forgive()
    # Nobody is left to report to, and another server may already be starting: no more work, at once.
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m processors.trainer", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--worker-id", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
