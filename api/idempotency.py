"""Requests that are sent again: the same key is the same command, and has effect once.

The ledger alone makes that so, across restarts and at every process of doors. What is remembered here, in memory and
bounded, is which body the first request had and the salt that was drawn for it.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from api.errors import ApiError
from producers.locks import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api.auth import Caller

MAX_KEY_CHARACTERS = 255
TURN_SECONDS = 45.0
"""How long a repeat waits for the first request: longer than that waits for its decision."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The first request with a command id: the SHA-256 of its body, and the salt of its commitment."""

    body_digest: bytes
    salt: bytes | None = field(default=None, repr=False)


def command_id_for(caller: Caller, route: str, key: str | None) -> bytes:
    """The id of the command that a request leads to: random without a key.

    Raises:
        ApiError: invalid_request, the key is empty, too long or has characters that no header should.
    """
    if key is None:
        return secrets.token_bytes(16)
    if not 0 < len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise ApiError("invalid_request", f"An Idempotency-Key has 1 to {MAX_KEY_CHARACTERS} printable characters.")
    material = f"idempotency\0{caller.tenant}\0{caller.key_id}\0{route}\0{key}"
    return sha256(material.encode()).digest()[:16]


@dataclass(slots=True)
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    wanted: int = 0


class Memory:
    """What the newest requests of this process were. Safe from any thread.

    ``turns`` is a file of locks by which all processes of doors take turns.
    """

    def __init__(self, turns: Path, capacity: int = 65_536, seconds: float = TURN_SECONDS) -> None:
        self._file = turns
        self._seconds = seconds
        self._capacity = capacity
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Remembered] = OrderedDict()
        self._turns: dict[bytes, _Turn] = {}

    @contextmanager
    def turn(self, command_id: bytes, *, repeatable: bool) -> Iterator[None]:
        """One request at a time for a command id: a repeat waits until the first is decided, and nobody else does.

        Raises:
            ApiError: no_decision, the first one takes too long; the process that has it may stand still.
        """
        if not repeatable:
            yield
            return
        with self._lock:
            turn = self._turns.setdefault(command_id, _Turn())
            turn.wanted += 1
        try:
            with self._alone(turn, int.from_bytes(command_id[:8], "big") >> 2):
                yield
        finally:
            with self._lock:
                turn.wanted -= 1
                if not turn.wanted:
                    del self._turns[command_id]

    @contextmanager
    def _alone(self, turn: _Turn, number: int) -> Iterator[None]:
        if not turn.lock.acquire(timeout=self._seconds):
            raise _under_way()
        try:
            ours = FileLock(self._file, number)
            if not ours.acquire_within(self._seconds):
                raise _under_way()
            try:
                yield
            finally:
                ours.release()
        finally:
            turn.lock.release()

    def get(self, command_id: bytes) -> Remembered | None:
        """What is known of a command's first request."""
        with self._lock:
            return self._known.get(command_id)

    def put(self, command_id: bytes, remembered: Remembered) -> None:
        """Remember a request; the oldest is forgotten when there are too many."""
        with self._lock:
            self._known[command_id] = remembered
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)

    def drop(self, command_id: bytes) -> None:
        """Forget a request that came to nothing."""
        with self._lock:
            self._known.pop(command_id, None)


def _under_way() -> ApiError:
    return ApiError("no_decision", "The first request with this Idempotency-Key is under way.")
