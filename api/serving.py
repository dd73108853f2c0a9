"""Answering requests: the listening socket, uvicorn over a platform's app, and how it ends when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from api.app import create_app
from api.errors import AddressUnavailableError
from producers.ending import when_told_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from api.platform import Platform
    from api.tls import TlsFiles

GRACE_SECONDS = 2


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


def end_on_signals(doors: Doors) -> None:
    """Before and after uvicorn holds the signals, and when it raises them again at its end: finish, do not die."""
    when_told_to_end(doors.stop)


def uvicorn_config(platform: Platform, tls: TlsFiles | None) -> uvicorn.Config:
    """How a platform is served: quietly, and with proxies believed that the settings name."""
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


@contextmanager
def inherited(fd: int) -> Iterator[socket.socket]:
    """A listening socket that the parent process has bound; its other children answer on it as well.

    Raises:
        AddressUnavailableError: the descriptor is no socket.
    """
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise AddressUnavailableError(f"Descriptor {fd} is no socket to listen on ({error.strerror}).") from error
    with listener:
        yield listener


def leave() -> None:
    """End now, though a request's thread may still wait: Python would join it, and what it waits for never comes."""
    if any(thread.is_alive() and not thread.daemon for thread in threading.enumerate()[1:]):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
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


def url_of(listener: socket.socket, scheme: str) -> str:
    """Where a listening socket is."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
