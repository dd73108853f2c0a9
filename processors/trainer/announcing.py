"""A trainer's word of itself, said every few seconds by a thread of its own: a long operation does not silence it.

The thread that executes notes how the trainer stands; only when its whole process stands still is nothing heard of it.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import structlog
from tensorguard.errors import TensorGuardError

from processors.placement.roster import ANNOUNCE_SECONDS

if TYPE_CHECKING:
    from processors.exchange.trainer import TrainerClient
    from processors.placement.roster import Announcer
    from processors.placement.standing import Standing

log = structlog.get_logger(__name__)


class ExchangeAnnouncer:
    """Says it to the server, by the connection that the trainer has to it anyway."""

    def __init__(self, client: TrainerClient) -> None:
        self._client = client

    def announce(self, standing: Standing) -> None:
        """See :class:`processors.placement.roster.Announcer`."""
        self._client.announce(standing.to_bytes())

    def leave(self, worker: str) -> None:  # noqa: ARG002 -- the connection has the trainer's name
        """See :class:`processors.placement.roster.Announcer`."""
        self._client.leave()

    def close(self) -> None:
        """The connection is the trainer's."""


class Announcements:
    """Announces a trainer for the length of a block, and lets it leave at the end."""

    def __init__(self, announcer: Announcer, standing: Standing, seconds: float = ANNOUNCE_SECONDS) -> None:
        self._announcer = announcer
        self._standing = standing
        self._leaving = False
        self._seconds = seconds
        self._wake = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcing", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._wake.set()
        self._thread.join()
        self._say(leaving=True)

    @property
    def standing(self) -> Standing:
        """What is said now."""
        return self._standing

    def note(self, standing: Standing) -> None:
        """The trainer stands so; it is said at once if that is new."""
        standing = replace(standing, leaving=self._leaving)
        if standing != self._standing:
            self._standing = standing
            self._wake.set()

    def leaving(self) -> None:
        """The trainer ends as soon as it can, and wants no more runs; any thread may say so."""
        self._leaving = True
        self.note(self._standing)

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.clear()
            self._say()
            self._wake.wait(self._seconds)

    def _say(self, *, leaving: bool = False) -> None:
        try:
            if leaving:
                self._announcer.leave(self._standing.worker)
            else:
                self._announcer.announce(self._standing)
        except TensorGuardError as error:
            log.debug("not_announced", code=error.code)
