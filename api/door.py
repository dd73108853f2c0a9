"""A process of doors alone: ``python -m api.door --data-dir DIR [--listen-fd N | --host H --port P]``.

Any number of them answers for one installation, on one listening socket or several. Each folds read models of its own
and wakes who waits from the log; what is neither there nor in the blob store is asked of the exchange. None decides,
places or destroys anything. It ends on SIGTERM or SIGINT, with the answers that are under way.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from api import gates
from api.enrolling import enrol_everywhere
from api.errors import PartFailedError
from api.observability.standing import Processes
from api.part import Part
from api.platform import Platform
from api.serving import Doors, end_on_signals, inherited, leave, listening, uvicorn_config
from api.sweeping import keep_sweeping
from api.tls import tls_files
from processors.exchange.door import DoorClient
from processors.placement.dispatcher import Dispatcher
from producers import logs
from producers.errors import NoDecisionError
from producers.positions import readers
from producers.sequencer.lock import every_partition_runs
from producers.settings import read
from producers.settings.about import SERVER
from producers.telemetry.traces import Tracing
from projections.queries import PLATFORM
from projections.slots import holding, open_slot

if TYPE_CHECKING:
    import socket

    from processors.exchange.port import Exchange
    from producers.settings import Settings

log = structlog.get_logger(__name__)


def main() -> int:
    """Answer until told to stop; the exit code."""
    arguments = _arguments()
    logs.configure()
    data_dir = arguments.data_dir.resolve()
    try:
        settings = read(data_dir, {"host": arguments.host, "port": arguments.port}).settings
        fd = arguments.listen_fd
        with listening(settings.host, settings.port) if fd is None else inherited(fd) as listener:
            answer(data_dir, settings, listener)
    except TensorGuardError as error:
        log.exception("door_failed", code=error.code, detail=str(error), next_step=error.next_step)
        return error.exit_code
    leave()
    return 0


def answer(data_dir: Path, settings: Settings, listener: socket.socket) -> None:
    """Answer requests of a data directory's installation on a socket until SIGTERM or SIGINT.

    Raises:
        ProductionError, TlsError: the settings are not those of a server that may start.
        TensorGuardError: the data directory, its ledger or its views cannot be used, or a part failed.
    """
    with ExitStack() as stack:
        gates.check(settings, data_dir)
        tls = tls_files(settings, datetime.now(UTC))
        exchange = stack.enter_context(DoorClient(data_dir))
        slot = stack.enter_context(holding(data_dir, settings.views_path(data_dir)))
        tracing = Tracing.to(settings.otlp_endpoint, SERVER)
        opened = Platform.open(
            data_dir, exchange=exchange, tracing=tracing, open_views=lambda engine: open_slot(slot, engine)
        )
        platform = stack.enter_context(contextlib.closing(opened))
        doors = Doors(uvicorn_config(platform, tls), platform.waiters.close)
        end_on_signals(doors)
        _start_parts(stack, platform, exchange, doors)
        host, port = listener.getsockname()[:2]
        log.info("listening", host=host, port=port, scheme="https" if tls else "http", views=slot.name)
        doors.run([listener])
        log.info("stopping")
    if doors.fault is not None:
        fault = doors.fault
        raise fault if isinstance(fault, TensorGuardError) else PartFailedError("A part of the door failed.")
    log.info("stopped")


def _start_parts(stack: ExitStack, platform: Platform, exchange: DoorClient, doors: Doors) -> None:
    """The threads beside the requests; readiness asks for what the doors need of other processes as well."""
    opened = threading.Event()

    def open_chains(stop: threading.Event) -> None:
        while not (stop.is_set() or opened.is_set()):
            with contextlib.suppress(NoDecisionError):  # no sequencer runs yet
                platform.submitter.ensure_chain(PLATFORM)
                opened.set()
        enrol_everywhere(platform, stop)

    for part in (
        Part("projector", platform.projector.run, doors.fail),
        Part("opening", open_chains, doors.fail),
        Part("sweeping", partial(keep_sweeping, platform), doors.fail),
    ):
        stack.enter_context(part.running())
    data_dir, partitions = platform.installation.data_dir, platform.installation.settings.intake_partitions
    platform.metrics.watch(Processes.of_machine(data_dir))
    platform.checks.update(
        ledger=opened.is_set,
        sequencer=lambda: every_partition_runs(data_dir, partitions),
        dispatcher=lambda: any(Dispatcher.name in reader.processors for reader in readers(data_dir)),
        signer=lambda: platform.engine.checkpoint(PLATFORM) is not None,
        exchange=exchange.reachable,
        trainer=lambda: trainer_ready(exchange),
    )


def trainer_ready(exchange: Exchange) -> bool:
    """Whether a trainer is connected that can execute operations."""
    try:
        return bool(exchange.figures().ready)
    except TensorGuardError:
        return False


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m api.door", description="Answer requests beside other processes.")
    parser.add_argument("--data-dir", type=Path, required=True)
    where = parser.add_argument_group("where to listen")
    where.add_argument("--listen-fd", type=int, help="a listening socket that the parent process has bound")
    where.add_argument("--host", help="else the address to listen on")
    where.add_argument("--port", type=int, help="and its port")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
