"""Orders from the ledger, made one after another, with a report of each: what packages and exports have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import structlog
from tensorguard.errors import TensorGuardError

from processors.base import Intent
from producers.deciders.registry import stream_of
from producers.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from processors.base import Recorded
    from schemas.base import Command, Event

R = TypeVar("R", bound="Event")
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Order(Generic[R]):
    """Something that was asked for; ``asked_at`` is microseconds, ``trigger`` the id of the event."""

    chain: str
    request: R
    asked_at: int
    trigger: bytes


@dataclass(slots=True)
class Desk(ABC, Generic[R]):
    """The orders that wait, by chain and id; who takes them in also folds what else making them needs."""

    waiting: dict[tuple[str, bytes], Order[R]] = field(default_factory=dict)

    @abstractmethod
    def take(self, recorded: Recorded) -> None:
        """Fold one event."""

    def ask(self, recorded: Recorded, name: bytes, request: R) -> None:
        """Let an order wait."""
        meta = recorded.meta
        self.waiting[recorded.chain, name] = Order(recorded.chain, request, meta.recorded_at, meta.event_id)

    def finish(self, recorded: Recorded, name: bytes) -> None:
        """Let an order wait no longer: it has its outcome."""
        self.waiting.pop((recorded.chain, name), None)

    def oldest(self) -> tuple[tuple[str, bytes], Order[R]] | None:
        """The order that waits longest, and what it is called."""
        return min(self.waiting.items(), key=lambda item: item[1].asked_at, default=None)


@contextmanager
def alone(_: str) -> Iterator[bool]:
    """Whether this process makes the orders of a chain: it does, where there is no other."""
    yield True


def in_turn(data_dir: Path, workshop: str) -> Callable[[str], AbstractContextManager[bool]]:
    """Whether this process makes the orders of a chain: not while another one is still at it."""

    @contextmanager
    def turn(chain: str) -> Iterator[bool]:
        lock = FileLock(data_dir / "run" / "workshops" / f"{workshop}-{chain}.lock")
        try:
            yield lock.try_acquire()
        finally:
            lock.release()

    return turn


class Workshop(ABC, Generic[R]):
    """A processor that makes what was asked for once everything recorded is known; one order after another.

    ``turn`` says of a chain, for the length of a block, whether its orders may be made: a worker that has lost a chain
    may still be making one while the next worker has the chain, and a package must not be signed twice.
    """

    name: ClassVar[str]
    role = "packager"
    events: ClassVar[frozenset[type[Event]]]

    def __init__(self, desk: Desk[R], turn: Callable[[str], AbstractContextManager[bool]] = alone) -> None:
        self._desk = desk
        self._turn = turn

    @abstractmethod
    def make(self, order: Order[R]) -> Command:
        """The report of what was made.

        Raises:
            TensorGuardError: why there is nothing; its code is what :meth:`failure` reports.
        """

    @abstractmethod
    def failure(self, order: Order[R], code: str) -> Command:
        """The report of an order that could not be fulfilled."""

    @abstractmethod
    def about(self, order: Order[R]) -> dict[str, str]:
        """What log lines name an order by."""

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        """Fold; nothing follows yet."""
        self._desk.take(recorded)
        return ()

    def caught_up(self) -> Sequence[Intent]:
        """The outcome of the order that waits longest."""
        oldest = self._desk.oldest()
        if oldest is None:
            return ()
        name, order = oldest
        with self._turn(order.chain) as ours:
            if not ours:
                return ()
            del self._desk.waiting[name]
            return [self._fulfil(order)]

    def _fulfil(self, order: Order[R]) -> Intent:
        command = self._outcome(order)
        return Intent(order.chain, stream_of(command), command, order.trigger, type(command).__name__)

    def _outcome(self, order: Order[R]) -> Command:
        try:
            made = self.make(order)
        except TensorGuardError as error:
            log.warning("order_failed", workshop=self.name, code=error.code, **self.about(order))
            return self.failure(order, error.code)
        except Exception as error:
            log.exception("order_failed", workshop=self.name, error=type(error).__name__, **self.about(order))
            return self.failure(order, "internal_error")
        log.info("order_made", workshop=self.name, **self.about(order))
        return made
