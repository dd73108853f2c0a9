"""The server's process: one writer, one projector, one dispatcher, the doors, and the children that act.

What is started is stopped in the opposite order, so that the last outcomes and checkpoints of the children are still
decided and projected.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import TensorGuardError

from api import gates
from api.children import Child, Supervisor, spawn
from api.errors import PartFailedError, ServerRunningError
from api.observability.standing import Processes
from api.part import Part
from api.platform import Platform
from api.seats import TrainerSeats
from api.serving import Doors, end_on_signals, listening, uvicorn_config
from api.sweeping import keep_sweeping
from api.tls import tls_files
from processors.catalogue import size_of
from processors.exchange.hub import Hub
from processors.exchange.limits import ExchangeLimits
from processors.exchange.server import listening as exchange_listening
from processors.placement.dispatcher import Dispatcher
from processors.placement.opening import kafka_roster, local_roster
from processors.runners.embedded import EmbeddedRunner
from producers import logs
from producers.engines.opening import open_engine
from producers.errors import InstallationError, WriterActiveError
from producers.files import replace_file
from producers.sequencer import Sequencer, SequencerLock
from producers.settings import read
from producers.settings.about import PACKAGER, SERVER, SIGNER
from producers.telemetry.traces import Tracing
from projections.queries import PLATFORM
from projections.rebuild import keeping_views

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processors.placement.roster import Roster
    from producers.settings import Settings

CHILDREN_SECONDS = 5.0
LOCK_SECONDS = 5.0
log = structlog.get_logger(__name__)


def serve(data_dir: Path, settings: Settings) -> None:
    """Run a server until SIGTERM or SIGINT.

    Raises:
        ServerRunningError: another server has this data directory.
        AddressUnavailableError: the address cannot be listened on.
        ProductionError, TlsError: the settings are not those of a server that may start.
        TensorGuardError: the data directory cannot be used, or a part failed.
    """
    logs.configure()
    data_dir = data_dir.resolve()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InstallationError(f"The data dir {data_dir} cannot be used ({error.strerror}).") from error
    with ExitStack() as stack:
        gates.check(settings, data_dir)
        tls = tls_files(settings, datetime.now(UTC))
        stack.enter_context(_only_server(data_dir))
        listener = stack.enter_context(listening(settings.host, settings.port))
        tracing = Tracing.to(settings.otlp_endpoint, SERVER)
        limits = ExchangeLimits(result_seconds=settings.result_ttl_seconds)
        hub = Hub(limits, first_frame=time.time_ns() >> 10)
        stack.enter_context(exchange_listening(hub, data_dir))
        opened = Platform.open(data_dir, exchange=hub, tracing=tracing)
        platform = stack.enter_context(contextlib.closing(opened))
        doors = Doors(uvicorn_config(platform, tls), platform.waiters.close)
        end_on_signals(doors)
        _start_parts(stack, platform, hub, doors)
        stack.enter_context(_announced(data_dir, listener, "https" if tls else "http"))
        doors.run([listener])
        log.info("stopping")
    if doors.fault is not None:
        raise _as_ours(doors.fault)
    log.info("stopped")


def _start_parts(stack: ExitStack, platform: Platform, hub: Hub, doors: Doors) -> None:
    """Threads and children, from the writer outwards; readiness asks each of them."""
    installation, engine = platform.installation, platform.engine
    sequencers = [
        Part(f"sequencer-{sequencer.partition}", sequencer.run, doors.fail)
        for sequencer in _sequencers(stack, platform)
    ]
    projector = Part("projector", platform.projector.run, doors.fail)
    roster = _roster(stack, platform, hub)
    dispatcher = Dispatcher(roster, partial(size_of, installation))
    runner = Part("dispatcher", EmbeddedRunner(installation, engine, [dispatcher]).run, doors.fail)
    opened = threading.Event()

    def open_platform_chain(_stop: threading.Event) -> None:
        platform.submitter.ensure_chain(PLATFORM)
        opened.set()

    def retain(stop: threading.Event) -> None:
        for chain in engine.chains():  # those of an older build do not know the role of retention yet
            platform.submitter.ensure_chain(chain)
        EmbeddedRunner(installation, engine, [platform.retention()]).run(stop)

    retention = Part("retention", retain, doors.fail)
    opening = Part("opening", open_platform_chain, doors.fail)
    sweeping = Part("sweeping", partial(keep_sweeping, platform), doors.fail)
    for part in (*sequencers, projector, opening, runner, retention, sweeping):
        stack.enter_context(part.running())
    seats = TrainerSeats(installation, hub, roster)
    stack.callback(seats.close)
    supervisor = _children(installation.data_dir, seats)
    platform.metrics.watch(Processes(supervisor.process_ids, supervisor.starts))
    supervisor.start()
    stack.callback(supervisor.stop, CHILDREN_SECONDS)
    stack.callback(roster.close)  # before that: what one trainer lets go is not for another that ends as well
    platform.checks.update(
        sequencer=lambda: all(part.alive for part in sequencers) and opened.is_set(),
        dispatcher=lambda: runner.alive,
        retention=lambda: retention.alive,
        signer=lambda: engine.checkpoint(PLATFORM) is not None and supervisor.alive("signer"),
        packager=lambda: supervisor.alive("packager"),
        trainer=lambda: seats.ready,
    )


def _roster(stack: ExitStack, platform: Platform, hub: Hub) -> Roster:
    """Where trainers say that they are there: beside a ledger on Kafka, or to the exchange."""
    settings = platform.installation.settings
    if (on_kafka := kafka_roster(settings)) is not None:
        return stack.enter_context(contextlib.closing(on_kafka))
    hub.roster = roster = local_roster(settings)
    return roster


def _sequencers(stack: ExitStack, platform: Platform) -> Iterator[Sequencer]:
    """One for each partition of the intake, each but the first on a handle of its own."""
    installation, observers = platform.installation, platform.observers
    partitions = installation.settings.intake_partitions
    yield Sequencer.of(installation, platform.engine, observers=observers, partition=0 if partitions > 1 else None)
    for partition in range(1, partitions):
        handle = open_engine(installation.settings, installation.data_dir, partition=partition)
        stack.callback(handle.close)
        yield Sequencer.of(installation, handle, observers=observers, partition=partition)


def _children(data_dir: Path, seats: TrainerSeats) -> Supervisor:
    where = ("--data-dir", str(data_dir))
    return Supervisor(
        [
            Child("signer", lambda: spawn(SIGNER, "producers.signer", *where)),
            *seats.children(),
            Child("packager", lambda: spawn(PACKAGER, "processors.packager", *where)),
        ]
    )


@contextmanager
def _only_server(data_dir: Path) -> Iterator[None]:
    """Hold the writer's lock and the views' lock.

    Raises:
        ServerRunningError: another server does.
    """
    lock = SequencerLock(data_dir)
    try:
        lock.acquire(LOCK_SECONDS)
        with keeping_views(data_dir):
            yield
    except WriterActiveError as error:
        raise ServerRunningError(f"Another server holds {_epoch_of(data_dir)} on this data dir.") from error
    finally:
        lock.close()


def _epoch_of(data_dir: Path) -> str:
    try:
        with contextlib.closing(open_engine(read(data_dir).settings, data_dir)) as engine:
            return f"epoch {engine.epoch()}"
    except TensorGuardError:
        return "the writer's lock"


@contextmanager
def _announced(data_dir: Path, listener: socket.socket, scheme: str) -> Iterator[None]:
    """Tell other processes of this machine where the server is."""
    host, port = listener.getsockname()[:2]
    path = data_dir / "run" / "server.json"
    replace_file(path, json.dumps({"pid": os.getpid(), "url": f"{scheme}://{host}:{port}"}).encode())
    log.info("listening", host=host, port=port, scheme=scheme)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _as_ours(fault: Exception) -> TensorGuardError:
    return fault if isinstance(fault, TensorGuardError) else PartFailedError("A part of the server failed.")
