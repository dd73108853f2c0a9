"""Long polls: a request sleeps until the views say that what it waits for was touched. Nothing is polled."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

from starlette.concurrency import run_in_threadpool

if TYPE_CHECKING:
    from collections.abc import Callable

    from projections.notices import Notice
    from projections.projector import Projector

T = TypeVar("T")


class Waiters:
    """Requests of one event loop that wait for ids. The projector's thread reports; :meth:`close` lets all go."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)
        self._closing = False

    def attach(self, projector: Projector) -> Callable[[], None]:
        """Take the projector's notices into the running event loop; returns how to stop that."""
        loop = asyncio.get_running_loop()

        def report(notice: Notice) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._wake, notice.touched)

        return projector.listen(report)

    async def until(self, topic: str, ask: Callable[[], T | None], timeout: float) -> T | None:  # noqa: ASYNC109
        """What ``ask`` (called in a thread) answers, as soon as that is not None; None after so many seconds."""
        touched = asyncio.Event()
        deadline = asyncio.get_running_loop().time() + timeout
        self._waiting[topic].add(touched)
        try:
            while (answer := await run_in_threadpool(ask)) is None and not self._closing:
                async with asyncio.timeout_at(deadline):
                    await touched.wait()
                touched.clear()
        except TimeoutError:
            return None
        else:
            return answer
        finally:
            self._forget(topic, touched)

    @property
    def closing(self) -> bool:
        """Whether the server stops."""
        return self._closing

    def touch(self, topic: str) -> None:
        """Let those who wait for an id look again; from the event loop's own thread."""
        self._wake(frozenset({topic}))

    def close(self) -> None:
        """Let everyone go with what there is: the server stops."""
        self._closing = True
        self._wake(frozenset(self._waiting))

    def _wake(self, topics: frozenset[str]) -> None:
        for topic in topics & self._waiting.keys():
            for touched in self._waiting[topic]:
                touched.set()

    def _forget(self, topic: str, touched: asyncio.Event) -> None:
        self._waiting[topic].discard(touched)
        if not self._waiting[topic]:
            del self._waiting[topic]
