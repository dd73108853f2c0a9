"""What is held of one chain: a bounded window of records in a row."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from producers.engines.kafka.index import Index

if TYPE_CHECKING:
    from producers.engines.errors import EngineError

_WINDOW_RECORDS = 4096
_WINDOW_BYTES = 8 << 20


@dataclass
class Stream:
    """Records ``first`` up to ``next`` of a chain, and whether the consumer brings more.

    ``ended``: whether the consumer has come to the topic's end; that was at the offset ``end``. ``newest``: seq and
    offset of the last record that was ever read. ``fault``: why the consumer brings no more; that
    is told to who reads on, and to nobody else.
    """

    chain: str
    first: int = 0
    first_offset: int = 0
    next: int | None = None
    window: deque[bytes] = field(default_factory=deque)
    held: int = 0
    assigned: bool = False
    ended: bool = False
    end: int = 0
    newest: tuple[int, int] | None = None
    fault: EngineError | None = None
    index: Index = field(default_factory=Index)
    read_at: float = 0.0

    def add(self, seq: int, data: bytes) -> None:
        """Hold the next record."""
        if self.next is None:
            self.first = seq
        self.window.append(data)
        self.held += len(data)
        self.next = seq + 1

    def clear(self) -> None:
        """Hold nothing."""
        self.window.clear()
        self.held, self.next = 0, None

    @property
    def full(self) -> bool:
        """Whether more is held than a window may."""
        return len(self.window) > _WINDOW_RECORDS or self.held > _WINDOW_BYTES

    def trim(self) -> None:
        """Let go of the oldest records of a full window."""
        while self.full:
            self.held -= len(self.window.popleft())
            self.first += 1

    def cut(self, seq: int) -> None:
        """Forget what is held from a record on."""
        while self.window and self.next is not None and self.next > seq:
            self.held -= len(self.window.pop())
            self.next -= 1

    def read_up_to(self, end: int) -> bool:
        """Whether the consumer brings no more: for a fault, or as the topic ends there or behind it."""
        return self.fault is not None or (self.ended and self.end >= end)

    def has(self, seq: int) -> bool:
        """Whether a record is held."""
        return self.next is not None and self.first <= seq < self.next
