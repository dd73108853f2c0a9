"""The hub: what the exchange holds, in the memory of one process. Every method may be called from any thread."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

from tensorguard.commitment import SALT_BYTES

from processors.exchange.attached import Feeds, Trainer
from processors.exchange.errors import ExchangeFullError
from processors.exchange.limits import ExchangeLimits
from processors.exchange.measured import Measured
from processors.exchange.port import Figures
from processors.exchange.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processors.exchange.streams import LocalReader


class RosterListener(Protocol):
    """Who is told of the trainers that are there; from the threads that serve them, outside of every lock."""

    def trainer_ready(self, worker: str) -> None:
        """A trainer can execute operations now."""

    def trainer_gone(self, worker: str) -> None:
        """The connection of a trainer is gone, and no other one has its name."""

    def announced(self, worker: str, standing: bytes) -> None:
        """A trainer says how it stands, in words of its own."""

    def left(self, worker: str) -> None:
        """A trainer ends and wants no more runs."""


class Hub:
    """An :class:`~processors.exchange.port.Exchange` in this process, and what trainers bring to it.

    The frames of streams are numbered from ``first_frame`` on: each process takes another number, so that no listener
    takes its frames for those of a process before it.
    """

    def __init__(
        self,
        limits: ExchangeLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        first_frame: int = 0,
    ) -> None:
        self.limits = limits or ExchangeLimits()
        self.roster: RosterListener | None = None
        self._clock = clock
        self._changed = threading.Condition()
        self._inputs: dict[bytes, bytes] = {}
        self._put_at: dict[bytes, float] = {}
        self._input_bytes = 0
        self._salts: OrderedDict[bytes, bytes] = OrderedDict()
        self._results: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._result_bytes = 0
        self._received = self._sent = 0
        self._trainers: list[Trainer] = []
        self.measured = Measured()
        self.streams = Streams(begin=first_frame, total_bytes=self.limits.stream_bytes, most=self.limits.streams)
        self.feeds = Feeds(self.streams, self.limits.streams)

    # -- inputs and results --------------------------------------------------------------------------------------

    def put_input(self, operation_id: bytes, data: bytes) -> None:
        """Keep an operation's input until it is dropped; the same id again replaces it, unless it was dropped.

        Raises:
            ExchangeFullError: it is too large, or too much waits already.
        """
        with self._changed:
            if operation_id in self._salts:  # a repeat of what is done: nobody would ever drop it
                return
            total = self._input_bytes - len(self._inputs.get(operation_id, b"")) + len(data)
            if len(data) > self.limits.one_input_bytes or total > self.limits.input_bytes:
                raise ExchangeFullError("The inputs that wait in memory leave no room for this one.")
            self._inputs[operation_id] = data
            self._put_at[operation_id] = self._clock()
            self._input_bytes = total

    def input(self, operation_id: bytes) -> bytes | None:
        """An operation's input, if it is here."""
        with self._changed:
            return self._inputs.get(operation_id)

    def has_input(self, operation_id: bytes) -> bool:
        """Whether an operation's input is here."""
        return self.input(operation_id) is not None

    def drop_input(self, operation_id: bytes) -> None:
        """Forget an operation's input, if it is here, for good: its salt alone stays known for a while."""
        with self._changed:
            data = self._inputs.pop(operation_id, None)
            self._put_at.pop(operation_id, None)
            if data is not None:
                self._input_bytes -= len(data)
                self._salts[operation_id] = data[:SALT_BYTES]
            while len(self._salts) > self.limits.salts:
                self._salts.popitem(last=False)

    def inputs_older_than(self, seconds: float) -> Sequence[bytes]:
        """The operations whose inputs have been here for longer, the oldest first."""
        with self._changed:
            before = self._clock() - seconds
            return sorted((each for each, at in self._put_at.items() if at < before), key=self._put_at.__getitem__)

    def salt(self, operation_id: bytes) -> bytes | None:
        """The salt of an input that is or was here, as long as it is remembered."""
        with self._changed:
            held = self._inputs.get(operation_id)
            return held[:SALT_BYTES] if held is not None else self._salts.get(operation_id)

    def put_result(self, operation_id: bytes, data: bytes) -> None:
        """Keep a result for its time; the oldest give way when there are too many bytes."""
        with self._changed:
            self._forget_result(operation_id)
            self._results[operation_id] = (self._clock() + self.limits.result_seconds, data)
            self._result_bytes += len(data)
            self._evict()

    def result(self, operation_id: bytes) -> bytes | None:
        """An operation's result, if it is still here."""
        with self._changed:
            self._evict()
            held = self._results.get(operation_id)
            return held[1] if held else None

    def _forget_result(self, operation_id: bytes) -> None:
        held = self._results.pop(operation_id, None)
        self._result_bytes -= len(held[1]) if held else 0

    def _evict(self) -> None:
        now = self._clock()
        while self._results:
            oldest = next(iter(self._results))
            if self._results[oldest][0] > now and self._result_bytes <= self.limits.result_bytes:
                return
            self._forget_result(oldest)

    # -- streams and figures -------------------------------------------------------------------------------------

    def stream_reader(self, operation_id: bytes, notify: Callable[[], None] | None = None) -> LocalReader:
        """A reader of what an operation under way streams; see :meth:`processors.exchange.streams.Streams.reader`."""
        return self.streams.reader(operation_id, notify)

    def figures(self) -> Figures:
        """How the hub stands."""
        times, levels = self.measured.times(), self.measured.levels()
        with self._changed:
            self._evict()
            return Figures(
                input_bytes=self._input_bytes,
                result_bytes=self._result_bytes,
                received=self._received,
                sent=self._sent,
                ready=tuple(sorted({each.worker for each in self._trainers if each.is_ready})),
                times=times,
                levels=levels,
            )

    def passed(self, received: int, sent: int) -> None:
        """So many bytes of a trainer's request and of its answer."""
        with self._changed:
            self._received += received
            self._sent += sent

    # -- trainers ------------------------------------------------------------------------------------------------

    def attach(self, worker: str) -> Trainer:
        """A trainer has connected."""
        trainer = Trainer(self, worker)
        with self._changed:
            self._trainers.append(trainer)
            self._changed.notify_all()
        return trainer

    def detach(self, trainer: Trainer) -> None:
        """Its connection is gone, with its streams and levels."""
        self.feeds.gone(trainer)
        self.measured.gone(id(trainer))
        with self._changed:
            self._trainers.remove(trainer)
            another = any(each.worker == trainer.worker for each in self._trainers)
            self._changed.notify_all()
        if self.roster is not None and not another:
            self.roster.trainer_gone(trainer.worker)

    def ready(self, trainer: Trainer) -> None:
        """A trainer can execute operations now."""
        with self._changed:
            trainer.is_ready = True
            self._changed.notify_all()
        if self.roster is not None:
            self.roster.trainer_ready(trainer.worker)

    def is_ready(self, worker: str) -> bool:
        """Whether a trainer is connected and can execute operations."""
        with self._changed:
            return any(each.worker == worker and each.is_ready for each in self._trainers)

    def is_connected(self, worker: str) -> bool:
        """Whether a trainer is connected."""
        with self._changed:
            return any(each.worker == worker for each in self._trainers)

    def wait_ready(self, worker: str, timeout: float) -> bool:
        """Block until a trainer is ready, at most so many seconds; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_ready(worker), timeout)

    def wait_gone(self, worker: str, timeout: float) -> bool:
        """Block until a trainer is not connected, at most so many seconds; whether it is not."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.is_connected(worker), timeout)
