"""The trainers that are connected to a hub, and whose frames a stream takes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

from processors.exchange.errors import ExchangeError
from processors.measures import Measures

if TYPE_CHECKING:
    from processors.exchange.hub import Hub
    from processors.exchange.streams import Streams

log = structlog.get_logger(__name__)


class Feeds:
    """Who feeds which stream: the trainer that began last. One that lost its run meanwhile may not have noticed yet."""

    def __init__(self, streams: Streams, most: int) -> None:
        self._streams = streams
        self._most = most
        self._lock = threading.Lock()
        self._feeder: dict[bytes, Trainer] = {}

    def append(self, trainer: Trainer, operation_id: bytes, frame: bytes) -> None:
        """A frame of a trainer, unless another one has begun after it; what that one began is another stream."""
        with self._lock:
            before = self._feeder.get(operation_id)
            if before is not trainer:
                if operation_id in trainer.outrun or max(len(self._feeder), len(trainer.outrun)) >= self._most:
                    return
                if before is not None:
                    before.outrun.add(operation_id)
                    self._streams.lose([operation_id])
                self._feeder[operation_id] = trainer
            self._streams.append(operation_id, frame)

    def end(self, trainer: Trainer, operation_id: bytes) -> None:
        """No more frames come of an operation, if this trainer feeds its stream or nobody does."""
        with self._lock:
            trainer.outrun.discard(operation_id)
            if self._feeder.get(operation_id, trainer) is trainer:
                self._feeder.pop(operation_id, None)
                self._streams.end(operation_id)

    def gone(self, trainer: Trainer) -> None:
        """What a trainer fed breaks off."""
        with self._lock:
            fed = [each for each, feeder in self._feeder.items() if feeder is trainer]
            for operation_id in fed:
                del self._feeder[operation_id]
            self._streams.lose(fed)


class Trainer:
    """One trainer's connection, as the hub knows it. ``outrun``: operations that it feeds in vain."""

    def __init__(self, hub: Hub, worker: str) -> None:
        self._hub = hub
        self.worker = worker
        self.is_ready = False
        self.outrun: set[bytes] = set()

    def stream(self, operation_id: bytes, frame: bytes) -> None:
        """A frame of an operation's stream."""
        self._hub.feeds.append(self, operation_id, frame)

    def end_stream(self, operation_id: bytes) -> None:
        """No more frames come of an operation."""
        self._hub.feeds.end(self, operation_id)

    def measures(self, data: bytes) -> None:
        """What the trainer measured; what are no measures is left out."""
        try:
            self._hub.measured.add(id(self), Measures.from_bytes(data))
        except ExchangeError:
            log.warning("measures_malformed")

    def announce(self, standing: bytes) -> None:
        """How the trainer stands."""
        if self._hub.roster is not None:
            self._hub.roster.announced(self.worker, standing)

    def leave(self) -> None:
        """The trainer ends and wants no more runs."""
        self.is_ready = False
        if self._hub.roster is not None:
            self._hub.roster.left(self.worker)
