"""Sealing: events become records, each linked to the one before; the sequencer's own records go where they are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.ledger import format as fmt
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.record import Meta, compose_record, event_id, position_cause

from producers.deciders.registry import CHAIN_STREAM
from schemas.codec import WrittenSchema, command_schema, event_schema, to_dict
from schemas.events import ChainOpened, EpochOpened, SchemaRegistered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from producers.deciders.engine import Presented
    from producers.sequencer.fold import ChainFold
    from schemas.base import Event


@dataclass(frozen=True, slots=True)
class Writer:
    """Who seals: a name for the record, and the epoch that fences every earlier writer."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a record says about where it came from."""

    signed: bytes | None = None
    cause: bytes | None = None
    index: int = 0
    correlation: bytes | None = None
    trace: bytes | None = None


_OWN = _Origin()


class Sealer:
    """Seals records onto a (draft of a) fold at one moment; ``records`` are their bytes in order."""

    def __init__(self, fold: ChainFold, writer: Writer, now: int) -> None:
        self._fold = fold
        self._writer = writer
        self._now = now
        self.records: list[bytes] = []

    def open_chain(self, origin: str, authority_key: bytes, partition: int) -> None:
        """Begin a chain."""
        opened = ChainOpened(fmt.FORMAT_VERSION, self._fold.chain, origin, partition, authority_key)
        self._seal(CHAIN_STREAM, opened, _OWN)

    def seal(self, presented: Presented, stream: str, events: Sequence[Event]) -> None:
        """Record what a command led to; the first record carries the signed command, all name it as their cause.

        Raises:
            MalformedRecordError: a record would be over 65,535 bytes.
        """
        self._open_epoch()
        self._register(command_schema(presented.envelope.command_type))
        for event in events:
            self._register(event_schema(type(event).__name__))
        envelope = presented.envelope
        for index, event in enumerate(events):
            signed = presented.encoded() if index == 0 else None
            origin = _Origin(signed, envelope.command_id, index, envelope.correlation, envelope.trace)
            self._seal(stream, event, origin)

    def _open_epoch(self) -> None:
        opened = self._fold.opened()
        if opened is None or opened.epoch != self._writer.epoch:
            self._seal(CHAIN_STREAM, EpochOpened(self._writer.epoch, self._writer.name), _OWN)

    def _register(self, schema: WrittenSchema) -> None:
        opened = self._fold.opened()
        if schema.digest in fmt.BOOTSTRAP or (opened and schema.digest in opened.schemas):
            return
        self._seal(CHAIN_STREAM, SchemaRegistered(schema.kind, schema.name, schema.digest, schema.text), _OWN)

    def _seal(self, stream: str, event: Event, origin: _Origin) -> None:
        fold, name = self._fold, type(event).__name__
        schema = event_schema(name)
        meta = Meta(
            prev_hash=fold.head.leaf,
            chain=fold.chain,
            seq=fold.head.size,
            epoch=self._writer.epoch,
            schema=schema.digest,
            event_id=event_id(origin.cause or position_cause(fold.chain, fold.head.size), name, origin.index),
            stream=stream,
            stream_seq=fold.version_of(stream),
            recorded_at=self._now,
            cause=origin.cause,
            correlation=origin.correlation,
            trace=origin.trace,
        )
        data = compose_record(schema.text, meta, origin.signed, to_dict(event))
        fold.apply(meta, event, leaf_hash(data))
        self.records.append(data)
