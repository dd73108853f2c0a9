"""Processors that note what they are told, and do as a test says."""

from __future__ import annotations

import threading
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

from processors.base import Intent
from schemas import events as e
from schemas.commands import FailPackage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from processors.base import Recorded

PATIENCE = 120.0


class Noting:
    """Answers every package that is asked for, once all is known, with a failure; it notes all that it is told."""

    name = "noting"
    role = "packager"
    events: ClassVar[frozenset[type[Any]]] = frozenset(
        {e.PackageRequested, e.PackageFailed, e.ProducerEnrolled, e.ModelRegistered}
    )

    def __init__(self, chain: str) -> None:
        self.chain = chain
        self.told: list[tuple[str, int]] = []
        self.settled = 0
        self.orders: dict[bytes, Recorded] = {}

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        self.told.append((recorded.chain, recorded.seq))
        match recorded.event:
            case e.PackageRequested(package_id=package_id):
                self.orders[package_id] = recorded
            case e.PackageFailed(package_id=package_id):
                self.orders.pop(package_id, None)
        return ()

    def caught_up(self) -> Sequence[Intent]:
        self.settled += 1
        orders, self.orders = self.orders, {}
        return [
            Intent(self.chain, f"package/{name.hex()}", FailPackage(name, "refused"), order.meta.event_id, "Fail")
            for name, order in orders.items()
        ]


class Failing(Noting):
    """Fails at every event, and when it is asked what follows."""

    name = "failing"

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        raise RuntimeError(recorded.chain)

    def caught_up(self) -> Sequence[Intent]:
        raise RuntimeError(self.chain)


class Slow(Noting):
    """Takes as long over its work as the test wants."""

    name = "slow"
    started: ClassVar[threading.Event]
    go_on: ClassVar[threading.Event]

    def caught_up(self) -> Sequence[Intent]:
        if self.orders:
            self.started.set()
            assert self.go_on.wait(PATIENCE)
        return super().caught_up()


class Makes:
    """A factory that keeps what it made, by chain, oldest first."""

    def __init__(self, kind: type[Noting] = Noting) -> None:
        self.kind = kind
        self.made: dict[str, list[Noting]] = {}

    def __call__(self, chain: str) -> Noting:
        processor = self.kind(chain)
        self.made.setdefault(chain, []).append(processor)
        return processor

    def now(self, chain: str) -> Noting:
        return self.made[chain][-1]


def name_of(text: str) -> bytes:
    """An id that follows from a text."""
    return sha256(text.encode()).digest()[:16]


def eventually(holds: Callable[[], bool], what: str = "it") -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)
