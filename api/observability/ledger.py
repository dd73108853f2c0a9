"""Where the ledger stands: each chain's head and what of it is signed, who reads how far, what waits or was set aside.

Nothing here needs a server. What no running process says is said to be unknown, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.ledger.errors import LedgerError
from tensorguard.ledger.record import decode_meta, decode_record

from producers.moving.survey import moved_to
from producers.positions import readers
from producers.sequencer.lock import sequencer_runs
from projections.errors import ProjectionError
from projections.slots import held
from projections.watermarks import watermarks
from schemas.codec import event_schema
from schemas.events import ChainOpened, EpochOpened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from producers.engines.port import LogEngine, LogReader
    from producers.installation import Installation
    from producers.positions import Reader

SIGNER, VIEWS = "signer", "views"
PROCESSORS = ("dispatcher", "retention", "trainer", "packager", "exporter")
"""The processors that a server runs. What each has read is in its memory, so one that does not run has no position."""
_OPENING = 3
"""An epoch's first records in a chain: its ``EpochOpened``, in a new chain behind the ``ChainOpened``."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far one reader of the ledger is behind it, by chain; None where nobody can say.

    ``process`` is ``host/pid`` of a processor that runs; None otherwise, and for the signer and the views, whose
    position outlives them. ``noted_at``: when a processor said so, in microseconds since the epoch. Workers share
    chains: each has a lag in its own, and those that none has at the moment are a position without a process.
    """

    reader: str
    lag: Mapping[str, int] | None
    process: str | None = None
    noted_at: int | None = None

    @property
    def total(self) -> int | None:
        """Records behind, over all chains."""
        return None if self.lag is None else sum(self.lag.values())


@dataclass(frozen=True, slots=True)
class ChainStanding:
    """A chain: its records, those that the newest published checkpoint covers, its newest writer's epoch and name.

    ``partition`` is that of the intake that the chain belongs to, ``moved_to`` the ledger that goes on with it.
    """

    chain: str
    size: int
    signed_size: int
    partition: int | None = None
    epoch: int | None = None
    written_by: str | None = None
    moved_to: str | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """The newest epoch of an intake partition's writers, and who opened it: None while nothing was written in it."""

    partition: int
    epoch: int
    written_by: str | None


@dataclass(frozen=True, slots=True)
class LedgerStanding:
    """A ledger at one moment. ``sequencer_runs``: whether one does here; None where others may run elsewhere."""

    epochs: tuple[Epoch, ...]
    sequencer_runs: bool | None
    waiting: int
    dead_letters: int
    chains: tuple[ChainStanding, ...]
    positions: tuple[Position, ...]

    def lag_of(self, chain: str) -> dict[str, int | None]:
        """How far each reader is behind in a chain; of several processes of one processor the last."""
        found: dict[str, int | None] = {}
        for position in self.positions:
            behind = None if position.lag is None else position.lag.get(chain)
            before = found.get(position.reader)
            found[position.reader] = behind if before is None else max(before, behind or 0)
        return found


def look(installation: Installation, engine: LogEngine) -> LedgerStanding:
    """How things stand. Heads are taken first, so that a reader that goes on meanwhile is not behind for that."""
    sizes = dict(sorted(engine.sizes().items()))
    chains = tuple(_chain(engine, chain, size) for chain, size in sizes.items())
    runs_here = sequencer_runs(installation.data_dir)
    return LedgerStanding(
        epochs=tuple(_epochs(engine.epoch(), chains)),
        sequencer_runs=runs_here if runs_here or installation.settings.embedded else None,
        waiting=engine.waiting(),
        dead_letters=len(engine.quarantined()),
        chains=chains,
        positions=(
            Position(SIGNER, _behind(sizes, {chain: signed_size(engine, chain) for chain in sizes})),
            Position(VIEWS, _views(sizes, installation)),
            *processors(sizes, installation.data_dir),
        ),
    )


def processors(sizes: Mapping[str, int], data_dir: Path) -> Iterator[Position]:
    """How far each process of each processor is behind; one that does not run has a position without a lag."""
    running = [(name, reader) for reader in readers(data_dir) for name in reader.processors]
    for name in dict.fromkeys((*PROCESSORS, *(name for name, _ in running))):
        there = [reader for each, reader in running if each == name]
        for reader in there:
            yield Position(name, _behind(_chains_of(reader, sizes), reader.positions), reader.process, reader.noted_at)
        if not there:
            yield Position(name, None)
        elif left := sizes.keys() - set().union(*(_chains_of(reader, sizes) for reader in there)):
            yield Position(name, {chain: sizes[chain] for chain in sorted(left)})


def _chains_of(reader: Reader, sizes: Mapping[str, int]) -> Mapping[str, int]:
    """The chains that a reader reads: all, or those that it has of what it shares with others."""
    return {chain: sizes[chain] for chain in reader.positions.keys() & sizes.keys()} if reader.partial else sizes


def signed_size(reader: LogReader, chain: str) -> int:
    """The size that the newest published checkpoint of a chain speaks of; 0 without one. Nothing is verified."""
    note = reader.checkpoint(chain)
    return int(note.split(b"\n", 2)[1]) if note else 0


def _views(sizes: Mapping[str, int], installation: Installation) -> dict[str, int] | None:
    """The lag of the views; of those of several processes the worst one of each chain."""
    first = installation.views_path
    try:
        found = [watermarks(path) for path in held(installation.data_dir, first) or (first,)]
    except ProjectionError:
        return None
    lags = [_behind(sizes, marks) for marks in found if marks is not None]
    return {chain: max(lag[chain] for lag in lags) for chain in sizes} if lags else None


def _behind(sizes: Mapping[str, int], reached: Mapping[str, int]) -> dict[str, int]:
    return {chain: max(0, size - reached.get(chain, 0)) for chain, size in sizes.items()}


def _epochs(opened: int, chains: Sequence[ChainStanding]) -> Iterator[Epoch]:
    """The newest epoch of each partition that has a chain; of the first one also one that was only ``opened``."""
    newest = {0: Epoch(0, opened, None)}
    for each in chains:
        if each.epoch is not None and each.partition is not None:
            known = newest.get(each.partition)
            if known is None or each.epoch >= known.epoch:
                newest[each.partition] = Epoch(each.partition, each.epoch, each.written_by)
    yield from (newest[partition] for partition in sorted(newest))


def _chain(reader: LogReader, chain: str, size: int) -> ChainStanding:
    signed = signed_size(reader, chain)
    try:
        epoch, writer = _newest_writer(reader, chain, size)
        return ChainStanding(chain, size, signed, _partition(reader, chain), epoch, writer, moved_to(reader, chain))
    except LedgerError:
        return ChainStanding(chain, size, signed)  # A damaged chain: `audit verify` says more of it.


def _partition(reader: LogReader, chain: str) -> int | None:
    schema = event_schema(ChainOpened.__name__)
    for data in reader.read(chain, 0, 1):
        return int(decode_record(data, {schema.digest: schema.text}).body["intake_partition"])
    return None


def _newest_writer(reader: LogReader, chain: str, size: int) -> tuple[int | None, str | None]:
    """The epoch of a chain's last record and who opened it; epochs never step back, so its first record is bisected."""
    if not size:
        return None, None
    newest = _epoch(reader, chain, size - 1)
    first, end = 0, size - 1
    while first < end:
        middle = (first + end) // 2
        first, end = (first, middle) if _epoch(reader, chain, middle) == newest else (middle + 1, end)
    schema = event_schema(EpochOpened.__name__)
    for data in reader.read(chain, first, _OPENING):
        if decode_meta(data).schema == schema.digest:
            return newest, str(decode_record(data, {schema.digest: schema.text}).body["writer"])
    return newest, None


def _epoch(reader: LogReader, chain: str, seq: int) -> int | None:
    for data in reader.read(chain, seq, 1):
        return decode_meta(data).epoch
    return None
