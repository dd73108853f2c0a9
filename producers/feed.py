"""Committed records as typed events, chain by chain in order, from where a reader stands."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.record import Meta, Record, decode_meta, decode_record, named_schema

from schemas.codec import EVENTS, decode_event, event_schema
from schemas.events import SchemaRegistered

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from producers.engines.port import LogReader
    from schemas.base import Event

_PAGE = 512
AHEAD = 128
"""So many chains at most are asked for together."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One committed record: where it stands, what it says, and its exact bytes."""

    chain: str
    seq: int
    meta: Meta
    event: Event
    data: bytes = field(repr=False)


def every_chain(_: str) -> bool:
    """The choice of all chains."""
    return True


class Feed:
    """A reader's place in every chain of its choice; new chains appear by themselves.

    ``positions`` maps a chain to the seq that is read next. ``events``, if given, are the only ones of interest: most
    records of others are passed over undecoded. One thread uses a feed at a time.
    """

    def __init__(
        self,
        reader: LogReader,
        positions: Mapping[str, int] | None = None,
        chains: Callable[[str], bool] = every_chain,
        events: Collection[type[Event]] = (),
    ) -> None:
        self._reader = reader
        self._wanted = chains
        self._schemas = {schema.digest: schema.text for schema in map(event_schema, EVENTS)}
        heeded = {*(event.__name__ for event in events), SchemaRegistered.__name__}
        self._passed = {event_schema(name).digest for name in EVENTS if events and name not in heeded}
        self._turn = 0
        self.positions: dict[str, int] = dict(positions or {})

    def poll(self, limit: int = 512) -> list[Recorded]:
        """The next records, per chain in order; at most ``limit``. Empty when all is read.

        A chain with a record that cannot be read holds up no other one: it is spoken of when nothing else is left.

        Raises:
            MalformedRecordError: a record is of a schema that neither this build nor its chain knows.
        """
        found: list[Recorded] = []
        faults: list[LedgerError] = []
        read = -1
        while not found and not faults and read != (read := sum(self.positions.values())):
            chains = self._in_turn()
            if len(chains) > 1:
                self._reader.prefetch({chain: self.positions.get(chain, 0) for chain in chains[:AHEAD]})
            for chain in chains:
                if len(found) < limit:
                    found += self._next(chain, limit - len(found), faults)
        if faults and not found:
            raise faults[0]
        return found

    def wait(self, timeout: float) -> bool:
        """Block until there is something to poll, or seconds passed; whether there is."""
        if self._wanted is every_chain:
            return self._reader.wait(self.positions, timeout)
        unread = {chain: sys.maxsize for chain in self._reader.chains() if not self._wanted(chain)}
        return self._reader.wait({**self.positions, **unread}, timeout)

    def _in_turn(self) -> list[str]:
        """Chains of choice with something to read, another one first each time: a busy chain starves no other one."""
        sizes = sorted(self._reader.sizes().items())
        chains = [chain for chain, size in sizes if size > self.positions.get(chain, 0) and self._wanted(chain)]
        self._turn += 1
        first = self._turn % len(chains) if chains else 0
        return chains[first:] + chains[:first]

    def _next(self, chain: str, limit: int, faults: list[LedgerError]) -> list[Recorded]:
        """What can be read of a chain's next records; why no more of them can goes to ``faults``."""
        position = self.positions.get(chain, 0)
        found: list[Recorded] = []
        try:
            for data in self._reader.read(chain, position, limit):
                if not self._passed or named_schema(data) not in self._passed:
                    found.append(self.typed(chain, data))
                position += 1
        except LedgerError as error:
            faults.append(error)
        self.positions[chain] = position
        return found

    def typed(self, chain: str, data: bytes) -> Recorded:
        """A record of a chain as its event; of what it registers the feed takes note.

        Raises:
            MalformedRecordError: it is of a schema that neither this build nor its chain knows.
        """
        record = self.record(chain, data)
        event = decode_event(record.event, record.body)
        if isinstance(event, SchemaRegistered) and event.kind == "event":
            self._schemas.setdefault(event.schema, event.text)
        return Recorded(chain, record.meta.seq, record.meta, event, data)

    def record(self, chain: str, data: bytes) -> Record:
        """A record of a chain, by the schema that it was written with.

        Raises:
            MalformedRecordError: it is of a schema that neither this build nor its chain knows.
        """
        if named_schema(data) not in self._schemas:
            self._learn(chain, decode_meta(data).seq)
        return decode_record(data, self._schemas)

    def _learn(self, chain: str, end: int) -> None:
        """Collect the schemas that a chain registered before a position: another build wrote it."""
        registered = event_schema(SchemaRegistered.__name__).digest
        for start in range(0, end, _PAGE):
            for data in self._reader.read(chain, start, min(_PAGE, end - start)):
                if named_schema(data) == registered:
                    body = decode_record(data, self._schemas).body
                    self._schemas.setdefault(body["schema"], body["text"])
