"""The server: where its ledger is in a file, one process that decides and answers, and the children that act.

A ledger on Kafka has a fleet of processes instead: see ``fleet``.

What is started is stopped in the opposite order, so that the last outcomes and checkpoints of the children are still
decided and projected.
"""

from __future__ import annotations

import contextlib
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
from api.fleet import serve_fleet
from api.observability.standing import Processes
from api.part import Part
from api.platform import Platform
from api.roles import check_embedded
from api.roll_call import RollCall, announced
from api.seats import TrainerSeats
from api.serving import Doors, end_on_signals, listening, url_of, uvicorn_config
from api.sweeping import keep_sweeping
from api.tls import tls_files
from processors.catalogue import size_of
from processors.exchange.hub import Hub
from processors.exchange.limits import ExchangeLimits
from processors.exchange.server import listening as exchange_listening
from processors.placement.dispatcher import GATHER_SECONDS, Dispatcher
from processors.placement.opening import local_roster
from processors.runners.embedded import EmbeddedRunner
from producers import logs
from producers.engines.opening import open_engine
from producers.errors import InstallationError, WriterActiveError
from producers.sequencer import Sequencer, SequencerLock
from producers.settings import read
from producers.settings.about import PACKAGER, SERVER, SIGNER
from producers.telemetry.traces import Tracing
from projections.queries import PLATFORM
from projections.rebuild import keeping_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from producers.settings import Settings

CHILDREN_SECONDS = 5.0
LOCK_SECONDS = 5.0
log = structlog.get_logger(__name__)


def serve(data_dir: Path, settings: Settings, only: str | None = None) -> None:
    """Run a server, or on Kafka one role of it, until SIGTERM or SIGINT.

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
    if settings.embedded:
        check_embedded(settings, only)
        _serve_embedded(data_dir, settings)
    else:
        serve_fleet(data_dir, settings, only)


def _serve_embedded(data_dir: Path, settings: Settings) -> None:
    """All roles of a ledger in a file: those that decide and answer in this process, the others as its children."""
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
        url = url_of(listener, "https" if tls else "http")
        _start_parts(stack, platform, hub, doors, RollCall(data_dir, url))
        stack.enter_context(announced(data_dir, url))
        doors.run([listener])
        log.info("stopping")
    if doors.fault is not None:
        raise _as_ours(doors.fault)
    log.info("stopped")


def _start_parts(stack: ExitStack, platform: Platform, hub: Hub, doors: Doors, call: RollCall) -> None:
    """Threads and children, from the writer outwards; readiness asks each of them."""
    installation, engine = platform.installation, platform.engine
    sequencer = Part("sequencer", Sequencer.of(installation, engine, observers=platform.observers).run, doors.fail)
    projector = Part("projector", platform.projector.run, doors.fail)
    hub.roster = roster = local_roster(installation.settings)
    gather = GATHER_SECONDS if installation.settings.trainers > 1 else 0.0
    dispatcher = Dispatcher(roster, partial(size_of, installation), gather_seconds=gather)
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
    for part in (sequencer, projector, opening, runner, retention, sweeping):
        stack.enter_context(part.running())
    seats = TrainerSeats(installation, roster)
    stack.callback(seats.close)
    supervisor = _children(installation.data_dir, seats, lambda: call.write(supervisor))
    platform.metrics.watch(Processes(supervisor.process_ids, supervisor.starts))
    stack.callback(call.remove)
    call.write(supervisor)
    supervisor.start()
    stack.callback(supervisor.stop, CHILDREN_SECONDS)
    stack.callback(roster.close)  # before that: what one trainer lets go is not for another that ends as well
    platform.checks.update(
        sequencer=lambda: sequencer.alive and opened.is_set(),
        dispatcher=lambda: runner.alive,
        retention=lambda: retention.alive,
        signer=lambda: engine.checkpoint(PLATFORM) is not None and supervisor.alive("signer"),
        packager=lambda: supervisor.alive("packager"),
        trainer=lambda: seats.ready(hub),
    )


def _children(data_dir: Path, seats: TrainerSeats, changed: Callable[[], None]) -> Supervisor:
    where = ("--data-dir", str(data_dir))
    return Supervisor(
        [
            Child("signer", lambda: spawn(SIGNER, "producers.signer", *where)),
            *seats.children(),
            Child("packager", lambda: spawn(PACKAGER, "processors.packager", *where)),
        ],
        changed,
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


def _as_ours(fault: Exception) -> TensorGuardError:
    return fault if isinstance(fault, TensorGuardError) else PartFailedError("A part of the server failed.")
