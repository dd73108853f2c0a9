"""A future as it grows: server-sent events of the texts of a sample, and at the end the future itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from processors.exchange.errors import ExchangeAwayError, ExchangeFullError
from processors.exchange.readers import Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from api import responses as r
    from api.futures import Futures
    from api.waiting import Waiters
    from processors.exchange.port import Exchange, StreamReader

KEEP_ALIVE_SECONDS = 15.0
KEEP_ALIVE = b": keep-alive\n\n"
GAP = b"event: gap\ndata: {}\n\n"


class Listening:
    """One listener's way through a future's stream; ``last`` is the number of the last event that it has."""

    def __init__(self, futures: Futures, exchange: Exchange, waiters: Waiters, tenant: str, future_id: str) -> None:
        self._futures = futures
        self._exchange = exchange
        self._waiters = waiters
        self._tenant = tenant
        self._future_id = future_id

    async def events(self, last: int | None, seconds: float) -> AsyncIterator[bytes]:
        """The events after ``last``, as they come; comments while there are none. It ends after so many seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds

        def touched() -> None:
            loop.call_soon_threadsafe(self._waiters.touch, self._future_id)

        async with self._reader(touched) as reader:
            while (left := until - loop.time()) > 0 and not self._waiters.closing:
                news: list[bytes] | r.Future | bytes | None = await self._waiters.until(
                    self._future_id, lambda: self._news(reader), min(left, KEEP_ALIVE_SECONDS)
                )
                if isinstance(news, list):
                    for each in _deltas(reader, news, last):
                        yield each
                elif news is None:
                    yield KEEP_ALIVE
                elif isinstance(news, bytes):
                    yield news
                    return
                else:
                    yield event("result", news.model_dump_json().encode())
                    return

    @asynccontextmanager
    async def _reader(self, touched: Callable[[], None]) -> AsyncIterator[StreamReader]:
        """A reader of the stream; one of nothing while the exchange is away: the result comes from the ledger."""
        opened: list[StreamReader] = []

        def listen() -> None:
            try:
                opened.append(self._exchange.stream_reader(bytes.fromhex(self._future_id), touched))
            except (ExchangeAwayError, ExchangeFullError):
                opened.append(Silence())

        try:
            await run_in_threadpool(listen)
            yield opened[0]
        finally:
            for reader in opened:
                reader.close()

    def _news(self, reader: StreamReader) -> list[bytes] | r.Future | bytes | None:
        """What there is to tell: frames, else the future if it has finished, else that no more comes, or nothing."""
        told = reader.read() or self._futures.get_finished(self._tenant, self._future_id)
        return told or (GAP if reader.lost else None)


def _deltas(reader: StreamReader, frames: list[bytes], last: int | None) -> Iterable[bytes]:
    """The frames that come after the event ``last``, each under its number; first that some were missed, if so."""
    first = reader.position - len(frames)
    of_another = last is not None and last < reader.begin == first
    if of_another or (reader.missed and (last is None or first > last + 1)):
        yield GAP
    reader.missed = 0
    for number, frame in enumerate(frames, first):
        if last is None or number > last:
            yield event("deltas", frame, number)


def event(name: str, data: bytes, number: int | None = None) -> bytes:
    """A server-sent event; the data is JSON without line ends."""
    label = b"" if number is None else b"id: %d\n" % number
    return b"%sevent: %s\ndata: %s\n\n" % (label, name.encode(), data)
