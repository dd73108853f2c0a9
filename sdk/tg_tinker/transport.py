"""Running flows over httpx: one driver that blocks, one for asyncio."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from weakref import WeakKeyDictionary

import httpx

from tg_tinker import telemetry
from tg_tinker.compression import Compression
from tg_tinker.errors import ClientClosedError
from tg_tinker.flows import Flow, Pause, Request, Surroundings
from tg_tinker.retry import Outcome, Response, Unreachable
from tg_tinker.streaming import Listening
from tg_tinker.trust import check_trust
from tg_tinker.types import SampleDelta

CONNECT_SECONDS = 10.0
T = TypeVar("T")
_ENDED = Unreachable("the stream ended")


class Transport:
    """A server's address and a key. Any thread may use it; each event loop gets connections of its own."""

    def __init__(
        self, base_url: str, api_key: str, around: Surroundings, trusted: ssl.SSLContext | None = None
    ) -> None:
        self.around = around
        self._options: dict[str, Any] = {
            "base_url": base_url.rstrip("/"),
            "headers": {"Authorization": f"Bearer {api_key}", "Accept": "application/json"},
        }
        if trusted is not None:  # else what httpx trusts: SSL_CERT_FILE, or the authorities it brings
            self._options["verify"] = trusted
        self._compression = Compression(base_url)
        self._closed = threading.Event()
        self._client = httpx.Client(**self._options)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def run(self, flow: Flow[T]) -> T:
        """Run a flow, blocking this thread."""
        outcome: Outcome | None = None
        with telemetry.call(flow), closing(flow):
            while True:
                try:
                    wish = flow.send(outcome)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                self._check_open()
                if isinstance(wish, Pause):
                    self._closed.wait(wish.seconds)
                    outcome = None
                else:
                    outcome = self._send(wish)

    async def run_async(self, flow: Flow[T]) -> T:
        """Run a flow without blocking the event loop."""
        outcome: Outcome | None = None
        with telemetry.call(flow), closing(flow):
            while True:
                try:
                    wish = flow.send(outcome)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                self._check_open()
                if isinstance(wish, Pause):
                    await asyncio.sleep(wish.seconds)
                    outcome = None
                else:
                    outcome = await self._send_async(wish)

    def _send(self, request: Request) -> Outcome:
        try:
            with self._client.stream(**self._arguments(request)) as answer:
                self._compression.learn(answer.headers)
                if request.into is None or not answer.is_success:
                    return Response(answer.status_code, answer.read(), dict(answer.headers))
                with _opened(request.into, answer) as file:
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
                        _tell(request, file)
                return Response(answer.status_code, b"", dict(answer.headers))
        except httpx.RequestError as error:
            check_trust(error)
            return Unreachable(type(error).__name__)

    async def _send_async(self, request: Request) -> Outcome:
        try:
            async with self._async_client().stream(**self._arguments(request)) as answer:
                self._compression.learn(answer.headers)
                if request.into is None or not answer.is_success:
                    return Response(answer.status_code, await answer.aread(), dict(answer.headers))
                with _opened(request.into, answer) as file:
                    async for chunk in answer.aiter_bytes():
                        file.write(chunk)
                        _tell(request, file)
                return Response(answer.status_code, b"", dict(answer.headers))
        except httpx.RequestError as error:
            check_trust(error)
            return Unreachable(type(error).__name__)

    def listen(self, listening: Listening) -> Iterator[SampleDelta]:
        """What comes of a stream, over as many connections as it takes, blocking this thread."""
        while listening.future is None:
            self._check_open()
            outcome: Outcome = _ENDED
            try:
                with self._client.stream(**self._arguments(listening.request())) as answer:
                    if not answer.is_success:
                        outcome = Response(answer.status_code, answer.read(), dict(answer.headers))
                    for line in answer.iter_lines() if answer.is_success else ():
                        yield from listening.take(line)
            except httpx.RequestError as error:
                check_trust(error)
                outcome = Unreachable(type(error).__name__)
            if listening.future is None:
                self._closed.wait(listening.pause(outcome))

    async def listen_async(self, listening: Listening) -> AsyncIterator[SampleDelta]:
        """As :meth:`listen`, without blocking the event loop."""
        while listening.future is None:
            self._check_open()
            outcome: Outcome = _ENDED
            try:
                async with self._async_client().stream(**self._arguments(listening.request())) as answer:
                    if not answer.is_success:
                        outcome = Response(answer.status_code, await answer.aread(), dict(answer.headers))
                    else:
                        async for line in answer.aiter_lines():
                            for delta in listening.take(line):
                                yield delta
            except httpx.RequestError as error:
                check_trust(error)
                outcome = Unreachable(type(error).__name__)
            if listening.future is None:
                await asyncio.sleep(listening.pause(outcome))

    def _arguments(self, request: Request) -> dict[str, Any]:
        headers, body = self._compression.apply(request.headers, request.body)
        return {
            "method": request.method,
            "url": request.path,
            "params": dict(request.query),
            "headers": {**headers, **telemetry.headers()},
            "content": body,
            "timeout": httpx.Timeout(request.seconds, connect=CONNECT_SECONDS),
        }

    def _async_client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = httpx.AsyncClient(**self._options)
        return self._clients[loop]

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClientClosedError("The client is closed.")

    def close(self) -> None:
        """End the blocking connections; what waits ends with ClientClosedError."""
        self._closed.set()
        self._client.close()

    async def aclose(self) -> None:
        """End all connections, those of the running event loop too."""
        self.close()
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()


def _opened(path: Path, answer: httpx.Response) -> BinaryIO:
    """The file that a body goes into: a part goes behind what is there."""
    return path.open("ab" if answer.status_code == httpx.codes.PARTIAL_CONTENT else "wb")


def _tell(request: Request, file: BinaryIO) -> None:
    if request.told:
        request.told(file.tell())
