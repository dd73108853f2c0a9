"""The server's process: one writer, one projector, one dispatcher, the doors, and the children that act.

What is started is stopped in the opposite order, so that the last outcomes and checkpoints of the children are still
decided and projected.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
import uvicorn
from tensorguard.errors import TensorGuardError

from api import gates
from api.app import create_app
from api.children import Child, Supervisor, TrainerSeat, spawn
from api.errors import AddressUnavailableError, PartFailedError, ServerRunningError
from api.observability.standing import Processes
from api.part import Part
from api.platform import Platform
from api.tls import tls_files
from processors.channel import ChannelLimits, SideChannel
from processors.dispatcher import Dispatcher
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
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from api.tls import TlsFiles
    from producers.settings import Settings

GRACE_SECONDS = 2
CHILDREN_SECONDS = 5.0
LOCK_SECONDS = 5.0
log = structlog.get_logger(__name__)


class Doors(uvicorn.Server):
    """Uvicorn that lets long polls go when it is told to stop, and can be stopped by a failing part."""

    def __init__(self, config: uvicorn.Config, release: Callable[[], None]) -> None:
        super().__init__(config)
        self._release = release
        self._loop: asyncio.AbstractEventLoop | None = None
        self.fault: Exception | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end."""
        super().handle_exit(sig, frame)
        self._let_go()

    def fail(self, error: Exception) -> None:
        """End because a part failed; from any thread."""
        self.fault = self.fault or error
        self.stop()

    def stop(self) -> None:
        """End; from any thread."""
        self.should_exit = True
        self._let_go()

    def _let_go(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._release)


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
        listener = stack.enter_context(_listening(settings.host, settings.port))
        tracing = Tracing.to(settings.otlp_endpoint, SERVER)
        limits = ChannelLimits(result_seconds=settings.result_ttl_seconds)
        channel = SideChannel(limits, first_frame=time.time_ns() >> 10)
        opened = Platform.open(data_dir, channel=channel, tracing=tracing)
        platform = stack.enter_context(contextlib.closing(opened))
        doors = Doors(_uvicorn(platform, tls), platform.waiters.close)
        _end_on_signals(doors)
        _start_parts(stack, platform, doors)
        stack.enter_context(_announced(data_dir, listener, "https" if tls else "http"))
        doors.run([listener])
        log.info("stopping")
    if doors.fault is not None:
        raise _as_ours(doors.fault)
    log.info("stopped")


def _end_on_signals(doors: Doors) -> None:
    """Before and after uvicorn holds the signals, and when it raises them again at its end: finish, do not die."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: doors.stop())


def _uvicorn(platform: Platform, tls: TlsFiles | None) -> uvicorn.Config:
    proxies = platform.installation.settings.trusted_proxy
    return uvicorn.Config(
        create_app(platform),
        ssl_certfile=tls.cert if tls else None,
        ssl_keyfile=tls.key if tls else None,
        proxy_headers=proxies is not None,
        forwarded_allow_ips=proxies,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def _start_parts(stack: ExitStack, platform: Platform, doors: Doors) -> None:
    """Threads and children, from the writer outwards; readiness asks each of them."""
    installation, engine = platform.installation, platform.engine
    sequencers = [
        Part(f"sequencer-{sequencer.partition}", sequencer.run, doors.fail)
        for sequencer in _sequencers(stack, platform)
    ]
    projector = Part("projector", platform.projector.run, doors.fail)
    dispatcher = Dispatcher()
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
    for part in (*sequencers, projector, Part("opening", open_platform_chain, doors.fail), runner, retention):
        stack.enter_context(part.running())
    seat = TrainerSeat(installation.data_dir, platform.channel, dispatcher, installation.producer("worker"))
    supervisor = _children(installation.data_dir, seat)
    platform.metrics.watch(Processes(supervisor.process_ids, supervisor.starts))
    supervisor.start()
    stack.callback(supervisor.stop, CHILDREN_SECONDS)
    platform.checks.update(
        sequencer=lambda: all(part.alive for part in sequencers) and opened.is_set(),
        dispatcher=lambda: runner.alive,
        retention=lambda: retention.alive,
        signer=lambda: engine.checkpoint(PLATFORM) is not None and supervisor.alive("signer"),
        packager=lambda: supervisor.alive("packager"),
        trainer=lambda: seat.ready,
    )


def _sequencers(stack: ExitStack, platform: Platform) -> Iterator[Sequencer]:
    """One for each partition of the intake, each but the first on a handle of its own."""
    installation, observers = platform.installation, platform.observers
    partitions = installation.settings.intake_partitions
    yield Sequencer.of(installation, platform.engine, observers=observers, partition=0 if partitions > 1 else None)
    for partition in range(1, partitions):
        handle = open_engine(installation.settings, installation.data_dir, partition=partition)
        stack.callback(handle.close)
        yield Sequencer.of(installation, handle, observers=observers, partition=partition)


def _children(data_dir: Path, seat: TrainerSeat) -> Supervisor:
    where = ("--data-dir", str(data_dir))
    return Supervisor(
        [
            Child("signer", lambda: spawn(SIGNER, "producers.signer", *where)),
            Child("trainer", seat.start, seat.ended),
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
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket, bound before anything is started.

    Raises:
        AddressUnavailableError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only on sockets that say they are TCP; else each waits 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise AddressUnavailableError(f"Nothing can listen on {host} port {port} ({error.strerror}).") from error
        yield listener


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
