"""``python -m tests.bench.following KIND DATA_DIR``: a process that follows a ledger, and says what that takes.

``reader`` reads it all once. ``bare``, ``embedded`` and ``faust`` follow the benchmark's chain: for each number on
standard input they wait until they were given so many messages of all, and say the processor time since the last one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from processors.base import Intent, Recorded
from processors.runners.crew import Crew, Kind
from processors.runners.embedded import EmbeddedRunner
from processors.runners.faust_app import make_app, work
from producers.engines.kafka.topics import Topics
from producers.engines.opening import kafka_config
from producers.feed import Feed
from producers.installation import Installation
from schemas.events import ForwardBackwardSubmitted
from tests.bench.__main__ import quiet
from tests.bench.harness import seconds
from tests.bench.kafka import memory_of
from tests.bench.ledger import CHAIN
from tests.bench.sequencing import READY

if TYPE_CHECKING:
    from collections.abc import Iterator

READER, BARE, EMBEDDED, FAUST = "reader", "bare", "embedded", "faust"
_POLL_SECONDS = 0.1
_PAGE = 1000


class Count:
    """A processor that does nothing but count."""

    name, role = "count", "dispatcher"
    events = frozenset({ForwardBackwardSubmitted})

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._handled = 0

    def handle(self, recorded: Recorded) -> Sequence[Intent]:  # noqa: ARG002 -- it is there: that is enough
        """Count one."""
        self.add(1)
        return ()

    def add(self, more: int) -> None:
        """Count so many."""
        with self._changed:
            self._handled += more
            self._changed.notify_all()

    def until(self, handled: int) -> None:
        """Wait for so many, of all."""
        with self._changed:
            self._changed.wait_for(lambda: self._handled >= handled)


@contextmanager
def _bare(installation: Installation, count: Count) -> Iterator[None]:
    """Confluent's consumer alone: it is handed messages, and looks into none."""
    config, stop = kafka_config(installation.settings), threading.Event()
    consumer = Consumer(config.consumer("bare", reset="earliest"))
    consumer.assign([TopicPartition(Topics(config).ledger(CHAIN), 0, 0)])

    def follow() -> None:
        while not stop.is_set():
            first = consumer.poll(_POLL_SECONDS)
            if first is not None:
                count.add(sum(message.error() is None for message in (first, *consumer.consume(_PAGE, 0))))
        consumer.close()

    with _thread(follow, stop):
        yield


@contextmanager
def _embedded(installation: Installation, count: Count) -> Iterator[None]:
    """Our runner of one process."""
    stop = threading.Event()
    with _thread(lambda: EmbeddedRunner(installation, installation.engine(), [count]).run(stop), stop):
        yield


@contextmanager
def _faust(installation: Installation, count: Count) -> Iterator[None]:
    """A Faust worker with every chain."""
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def follow() -> None:
        crew = Crew(installation, installation.engine(), [Kind(count.name, count.role, lambda _: count)])
        await work(make_app(installation.settings, crew), crew, stop)

    thread = threading.Thread(target=lambda: loop.run_until_complete(follow()))
    thread.start()
    yield
    loop.call_soon_threadsafe(stop.set)
    thread.join()


@contextmanager
def _thread(work: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


KINDS: dict[str, Callable[[Installation, Count], AbstractContextManager[None]]] = {
    BARE: _bare,
    EMBEDDED: _embedded,
    FAUST: _faust,
}


def _follow(kind: str, installation: Installation) -> None:
    count, before = Count(), time.process_time()
    with KINDS[kind](installation, count):
        for line in sys.stdin:
            count.until(int(line))
            since, before = before, time.process_time()
            _say(str(before - since))


def _read(installation: Installation) -> None:
    def all_of_it() -> None:
        feed = Feed(installation.engine())
        while feed.poll():
            pass

    _say(json.dumps({"seconds": seconds(all_of_it), "memory": memory_of(os.getpid())}))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(kind: str, data_dir: Path) -> None:
    """Follow, or read."""
    installation = Installation.open(data_dir)
    _say(READY)
    if kind == READER:
        _read(installation)
    else:
        _follow(kind, installation)
    installation.close()
    os._exit(0)  # Faust leaves threads behind that nobody waits for.


if __name__ == "__main__":
    quiet()
    main(sys.argv[1], Path(sys.argv[2]))
