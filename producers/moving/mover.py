"""Copying a whole ledger, and moving it: what is done in which order, so that a break at any point can be taken up.

A copy only reads the source. A move decides all that waits, copies, ends every chain of the source in one commit
(``LedgerMoved``), copies that too, and goes on with every chain of the destination in one commit (``LedgerContinued``);
with several intake partitions there is such a commit for each. Between the two nobody writes a chain; behind the first
one the source never goes on with it, behind the second one the destination does. A move that was broken off is the same
move when it is started again: the records say how far it came.
"""

from __future__ import annotations

import secrets
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tensorguard.ledger import trust

from producers.deciders.registry import stream_of
from producers.home import read_home, write_home
from producers.identities import make_envelope
from producers.moving.errors import DestinationDiffersError, SourceEmptyError
from producers.moving.survey import moved_to, partition_of, survey
from producers.moving.transfer import publish, transfer
from producers.sequencer import SequencerLock
from producers.sequencer.place import Place
from schemas.commands import ContinueLedger, MoveLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from producers.engines.port import LogEngine
    from producers.installation import Installation
    from producers.moving.ends import End
    from producers.moving.survey import Chain
    from producers.sequencer import Sequencer
    from schemas.base import Command

_PAGE = 512
_LOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move did: the ledger's name now, every chain's size at the source, and what stayed or came along.

    ``carried`` counts intake entries that came too late for the source, ``left`` the dead letters, which stay there.
    """

    ledger: str
    chains: Sequence[Chain]
    carried: int
    left: int


class Mover:
    """One source and one destination, both of one installation. ``sign`` lets its signer sign what a ledger holds."""

    def __init__(
        self,
        installation: Installation,
        source: End,
        destination: End,
        sign: Callable[[LogEngine], None],
    ) -> None:
        self._installation = installation
        self._from = source
        self._to = destination
        self._source = source.engine
        self._destination = destination.engine
        self._sign = sign

    def copy(self) -> Sequence[Chain]:
        """Copy what is committed now, however far an earlier copy came. Beside a running server, it is behind at once.

        Nothing is written before every chain of the source is verified, and found to go on where the destination ends.

        Raises:
            CopyError: one of its kinds says why not.
            FencedError: somebody else has taken the destination.
            StorageFullError: the destination is full; it holds a shorter ledger.
        """
        if None in self._ended().values():
            self._sign(self._source)
        return self._copy()

    def move(self, name: str) -> Moved:
        """Copy everything, end the source and go on at the destination, which is called ``name`` from then on.

        If the source was ended before, its records say the name, and only what is left to do is done.

        Raises:
            WriterActiveError: a server runs on this data dir.
            LedgerMovedError: the source is not the installation's ledger any more.
            RejectedError: the ledger has this name already, or the name cannot be one.
            CopyError, FencedError, StorageFullError: as in :meth:`copy`; what was done stands, and is taken up.
        """
        with self._alone():
            ended = self._ended()
            name = next(filter(None, ended.values()), name)
            if None in ended.values():
                self._end(name, ended)
            chains = self._copy()
            self._go_on(name)
            write_home(self._installation.data_dir, name)
            carried = self._carry()
            self._sign(self._destination)
            return Moved(name, chains, carried, len(self._source.quarantined()))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with closing(SequencerLock(self._installation.data_dir)) as lock:
            lock.acquire(_LOCK_SECONDS)
            yield

    def _ended(self) -> dict[str, str | None]:
        """Each chain of the source, with the name of the ledger that goes on with it, if it ends here."""
        chains = self._source.chains()
        if not chains:
            raise SourceEmptyError("There is no chain at the source.")
        return {chain: moved_to(self._source, chain) for chain in chains}

    def _copy(self) -> Sequence[Chain]:
        root = trust.parse(self._installation.trust_root_path.read_bytes())
        chains = [survey(self._source, self._destination, name, root) for name in self._source.chains()]
        self._check_beyond(chains)
        places = {chain.name: self._to.partition_of(chain.name, chain.partition) for chain in chains}
        lacking = [chain for chain in chains if chain.present < chain.size]
        for partition in sorted({places[chain.name] for chain in lacking}):
            writer = self._to.writer(partition)
            epoch = writer.open_epoch()
            for chain in lacking:
                if places[chain.name] == partition:
                    transfer(self._source, writer, epoch, chain)
        for chain in chains:
            publish(self._destination, chain)
        return chains

    def _check_beyond(self, chains: Sequence[Chain]) -> None:
        """A destination may hold more than the source only if it is where the source was moved to before."""
        beyond = [chain.name for chain in chains if chain.present > chain.size]
        beyond += sorted({*self._destination.chains()} - {chain.name for chain in chains})
        if beyond and None in self._ended().values():
            raise DestinationDiffersError(f"The destination holds more of chain {beyond[0]!r} than the source.")

    def _end(self, name: str, ended: dict[str, str | None]) -> None:
        """End every chain of the source, with as little left to copy as can be."""
        place = Place(read_home(self._installation.data_dir), name)
        writers = [self._from.sequencer(self._installation, partition, place) for partition in self._from.partitions]
        for writer in writers:
            writer.open()
        if not any(ended.values()):
            _decide_all(writers)
            self.copy()
            _decide_all(writers)
        going = [chain for chain, ledger in self._ended().items() if ledger is None]
        for partition, chains in self._by_partition(self._from, going).items():
            writers[partition].decide(self._signed(MoveLedger(name), chains))
        self._sign(self._source)

    def _go_on(self, name: str) -> None:
        ended = [chain for chain in self._destination.chains() if moved_to(self._destination, chain) == name]
        if ended and read_home(self._installation.data_dir) == name:
            raise DestinationDiffersError(f"The ledger goes on as {name!r} elsewhere; it was moved there before.")
        for partition, chains in self._by_partition(self._to, ended).items():
            writer = self._to.sequencer(self._installation, partition, Place(moving_to=name))
            writer.open()
            writer.decide(self._signed(ContinueLedger(name), chains))
            writer.close()

    def _by_partition(self, end: End, chains: Sequence[str]) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for chain in chains:
            found.setdefault(end.partition_of(chain, partition_of(end.engine, chain)), []).append(chain)
        return found

    def _signed(self, command: Command, chains: Sequence[str]) -> list[bytes]:
        """The authority's command for each chain, all under one signature."""
        now, stream = self._installation.clock(), stream_of(command)
        envelopes = [
            make_envelope(command, chain=chain, stream=stream, command_id=secrets.token_bytes(16), now=now)
            for chain in chains
        ]
        signed = self._installation.producer("authority").sign([envelope.to_bytes() for envelope in envelopes])
        return [each.to_bytes() for each in signed]

    def _carry(self) -> int:
        """Hand what came into the source's intake too late to the destination, where a repetition has no effect."""
        carried = 0
        for engine in map(self._from.writer, self._from.partitions):
            position = engine.intake_position()
            while entries := engine.intake(position, _PAGE):
                self._destination.submit([entry.data for entry in entries])
                position, carried = entries[-1].position, carried + len(entries)
        return carried


def _decide_all(writers: Sequence[Sequencer]) -> None:
    for writer in writers:
        while writer.step():
            pass
