"""A server on Kafka: processes of each kind, kept by a supervisor that holds the exchange and the listening socket.

Each role can have a supervisor of its own as well, in a container say. The processes find each other by the ledger, and
by what lies in the data directory that they share.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog
from tensorguard.errors import UsageError

from api import gates
from api.children import Supervisor
from api.errors import PartFailedError, ServerRunningError
from api.roles import API, EXCHANGE, ROLES, Roles
from api.roll_call import LOCK, RollCall, announced
from api.serving import listening, url_of
from api.tls import tls_files
from processors.exchange.hub import Hub
from processors.exchange.limits import ExchangeLimits
from processors.exchange.server import listening as exchange_listening
from processors.keys.file import FileKeyProvider
from producers.deciders.registry import PLATFORM
from producers.ending import when_told_to_end
from producers.engines.opening import open_engine
from producers.home import read_home
from producers.installation import Installation
from producers.locks import FileLock
from producers.sequencer.place import Place
from producers.sequencer.recover import recover
from producers.settings.about import TRAINER, WORKER
from producers.telemetry.counting import counting_together

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from producers.settings import Settings

STOP_SECONDS = 9.0
_OPEN_WHAT_IS_SEALED = frozenset({TRAINER, WORKER, API})
log = structlog.get_logger(__name__)


class Ending:
    """Whether it is time to end, and which child brought that about."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.given_up: str | None = None

    def on_signals(self) -> None:
        """End when asked as an operator does."""
        when_told_to_end(self._asked.set)

    def give_up(self, name: str) -> None:
        """End because a child will not go on."""
        self.given_up = self.given_up or name
        self._asked.set()

    def wait(self) -> None:
        """Block until then."""
        self._asked.wait()


def serve_fleet(data_dir: Path, settings: Settings, only: str | None = None) -> None:
    """Keep the processes of all roles, or of one, until SIGTERM or SIGINT.

    Raises:
        ServerRunningError: another server has this data directory.
        AddressUnavailableError: the address cannot be listened on.
        ProductionError, TlsError: the settings are not those of a server that may start.
        LedgerMovedError: the ledger was moved away from here.
        PartFailedError: a process gave up.
        UsageError: there is no such role.
        TensorGuardError: the data directory or the ledger cannot be used.
    """
    if only is not None and only not in ROLES:
        raise UsageError(f"There is no role {only!r}.", next_step=f"Name one of {', '.join(ROLES)}.")
    roles = frozenset(ROLES if only is None else {only})
    ending = Ending()
    with ExitStack() as stack:
        scheme = _checked(settings, data_dir) if API in roles else "http"
        stack.enter_context(_only_server(data_dir, alone=only is None))
        ending.on_signals()
        listener = stack.enter_context(listening(settings.host, settings.port)) if API in roles else None
        installation = stack.enter_context(closing(Installation.open(data_dir)))
        _look_before(installation, roles)
        if EXCHANGE in roles:
            stack.enter_context(_exchange(data_dir, settings))
        url = url_of(listener, scheme) if listener is not None else None
        stack.enter_context(_keeping(installation, Roles(installation, roles, listener), url, ending))
        if url is not None and only is None:
            stack.enter_context(announced(data_dir, url))
        ending.wait()
        log.info("stopping")
    if ending.given_up is not None:
        raise PartFailedError(
            f"The process {ending.given_up} gave up.", next_step="Its last lines in the log say why, and what to do."
        )
    log.info("stopped")


def _checked(settings: Settings, data_dir: Path) -> str:
    gates.check(settings, data_dir)
    return "https" if tls_files(settings, datetime.now(UTC)) else "http"


@contextmanager
def _only_server(data_dir: Path, *, alone: bool) -> Iterator[None]:
    """Hold the server's lock, alone or with the supervisors of other roles.

    Raises:
        ServerRunningError: another server does.
    """
    lock = FileLock(data_dir / "run" / LOCK)
    if not (lock.try_acquire() if alone else lock.try_share()):
        raise ServerRunningError("Another server runs on this data dir.")
    try:
        yield
    finally:
        lock.release()


def _look_before(installation: Installation, roles: frozenset[str]) -> None:
    """What would let every child fail is said once, by its supervisor; topics are made before children use them.

    Raises:
        KeyLockedError: what is sealed does not open.
        LedgerMovedError: the ledger was moved away from here.
        EngineError: the ledger cannot be reached, or is not what it should be.
    """
    if roles & _OPEN_WHAT_IS_SEALED:
        FileKeyProvider.of(installation).protect()
    with closing(open_engine(installation.settings, installation.data_dir)) as engine:
        Place(home=read_home(installation.data_dir)).check({PLATFORM: recover(engine, PLATFORM)[0]})


@contextmanager
def _exchange(data_dir: Path, settings: Settings) -> Iterator[None]:
    limits = ExchangeLimits(result_seconds=settings.result_ttl_seconds)
    with exchange_listening(Hub(limits, first_frame=time.time_ns() >> 10), data_dir):
        yield


@contextmanager
def _keeping(installation: Installation, kept: Roles, url: str | None, ending: Ending) -> Iterator[None]:
    """Keep children running for the length of a block."""
    os.environ.update(counting_together(installation.data_dir))
    call = RollCall(installation.data_dir, url)
    with closing(kept):
        supervisor = Supervisor(kept.children(), changed=lambda: call.write(supervisor), given_up=ending.give_up)
        call.write(supervisor)
        supervisor.start()
        try:
            yield
        finally:
            supervisor.stop(STOP_SECONDS)
            call.remove()
