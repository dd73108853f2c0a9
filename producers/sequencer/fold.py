"""What the records of one chain add up to: its head, and the state and version of each of its streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.ledger.record import GENESIS_PREV_HASH, Meta

from producers.deciders import registry
from producers.deciders.chain import ChainState
from producers.deciders.ledger import STREAM as LEDGER_STREAM
from producers.deciders.ledger import LedgerState

if TYPE_CHECKING:
    from schemas.base import Event


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: number of records, leaf hash of the last one, its time (microseconds) and epoch."""

    size: int = 0
    leaf: bytes = GENESIS_PREV_HASH
    recorded_at: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream's number of events, and the state they fold to."""

    version: int = 0
    state: object | None = None


_EMPTY = Stream()


class ChainFold:
    """The fold of one chain. A draft of it can go ahead and be adopted or dropped: nothing is ever undone in place.

    ``streams`` of a draft are those alone that it has changed; all others are those of the fold ``below`` it.
    """

    def __init__(
        self,
        chain: str,
        head: Head | None = None,
        streams: dict[str, Stream] | None = None,
        below: ChainFold | None = None,
    ) -> None:
        self.chain = chain
        self.head = head or Head()
        self.streams = {} if streams is None else streams
        self._below = below

    def find(self, stream: str) -> object | None:
        """The state of a stream; None if it has no events."""
        return self._stream(stream).state

    def version_of(self, stream: str) -> int:
        """The number of events in a stream."""
        return self._stream(stream).version

    def opened(self) -> ChainState | None:
        """How the chain was opened; None before its first record."""
        state = self.find(registry.CHAIN_STREAM)
        return state if isinstance(state, ChainState) else None

    def ledger(self) -> LedgerState:
        """The ledger that the chain is written in, and where it has gone, if it has."""
        state = self.find(LEDGER_STREAM)
        return state if isinstance(state, LedgerState) else LedgerState()

    def apply(self, meta: Meta, event: Event, leaf: bytes) -> None:
        """Add one record."""
        state = registry.evolve(self.find(meta.stream), meta.stream, event)
        self.streams[meta.stream] = Stream(meta.stream_seq + 1, state)
        self.head = Head(meta.seq + 1, leaf, meta.recorded_at, meta.epoch)

    def draft(self) -> ChainFold:
        """A copy to go ahead with; it shares what it does not change."""
        return ChainFold(self.chain, self.head, below=self)

    def adopt(self, draft: ChainFold) -> None:
        """Become what a draft of this fold has become."""
        self.head = draft.head
        self.streams.update(draft.streams)

    def rebase(self, below: ChainFold) -> None:
        """Stand upon another fold that says the same as the one below: so no draft outlives its adoption."""
        self._below = below

    def _stream(self, name: str) -> Stream:
        fold: ChainFold | None = self
        while fold is not None:
            if (found := fold.streams.get(name)) is not None:
                return found
            fold = fold._below  # noqa: SLF001 -- its own kind
        return _EMPTY
