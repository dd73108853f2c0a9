"""What chains cost on Kafka: time to open and to start, memory, open files, and records a second over all of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tensorguard.ledger.envelope import Envelope
from tensorguard.ledger.export import PLATFORM

from producers.clock import system_clock
from producers.deciders.registry import stream_of
from producers.identities import Producer, make_envelope
from producers.submitter import Submitter
from schemas.base import Command
from schemas.commands import EnrolProducer
from tests.bench.following import READER
from tests.bench.harness import Figure, Spread, in_threads, seconds
from tests.bench.kafka import Child, Sequencing, files_of, install, memory_of
from tests.bench.ledger import new_run
from tests.bench.sizes import KafkaChainsSize

_BATCH = 64
_WRITERS = 4
_SECONDS = 600.0
_MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """Of so many tenants: seconds, records a second, bytes, and open files."""

    opening: float
    rate: float
    start: float
    memory: float
    files: int
    reading: float
    reader_memory: float


def run(size: KafkaChainsSize, work: Path) -> list[Figure]:
    """Each number of tenants beside the first one."""
    found = {tenants: _measure(size, work / str(tenants), tenants) for tenants in size.tenants}
    first, *others = size.tenants
    return [figure for tenants in others for figure in _figures(tenants, found[tenants], first, found[first])]


def _measure(size: KafkaChainsSize, data_dir: Path, tenants: int) -> Cost:
    chains = [f"tenant-{number}" for number in range(tenants)]
    with ExitStack() as stack:
        installation = install(data_dir)
        stack.callback(installation.close)
        submitter = Submitter(installation, installation.engine())
        stack.callback(submitter.close)
        authority, gateway = installation.producer("authority"), installation.producer("gateway")
        sequencing = Sequencing(data_dir)
        submitter.ensure_chain(PLATFORM)
        enrolments = [_asked(chain, EnrolProducer(gateway.key_id, gateway.public_key, *_GATEWAY)) for chain in chains]
        opening = seconds(lambda: _submit_all(submitter, authority, enrolments))
        _submit_all(submitter, gateway, _runs(chains))  # so that every schema is on every chain
        load = _runs([chains[number % tenants] for number in range(size.records)])
        rate = size.records / seconds(lambda: _submit_all(submitter, gateway, load))
        sequencing.close()
        started: list[Sequencing] = []
        start = seconds(lambda: started.append(Sequencing(data_dir)))
        stack.callback(started[0].close)
        pid = started[0].pid
        reading = _read_all(data_dir)
        return Cost(opening, rate, start, memory_of(pid), files_of(pid), reading["seconds"], reading["memory"])


_GATEWAY = ("gateway", "gateway", None)


def _runs(chains: Sequence[str]) -> list[Envelope]:
    return [_asked(chain, new_run(secrets.token_hex(8))) for chain in chains]


def _asked(chain: str, command: Command) -> Envelope:
    command_id = secrets.token_bytes(16)
    return make_envelope(command, chain=chain, stream=stream_of(command), command_id=command_id, now=system_clock())


def _submit_all(submitter: Submitter, producer: Producer, envelopes: Sequence[Envelope]) -> None:
    batches = [envelopes[at : at + _BATCH] for at in range(0, len(envelopes), _BATCH)]

    def submit(share: Sequence[Sequence[Envelope]]) -> None:
        for batch in share:
            submitter.submit(producer, batch)
            for envelope in batch:
                submitter.wait(envelope.command_id, envelope.chain, _SECONDS).raise_for_outcome()

    in_threads([lambda share=batches[number::_WRITERS]: submit(share) for number in range(_WRITERS)])  # type: ignore[misc]


def _read_all(data_dir: Path) -> dict[str, float]:
    """What a process of its own takes that reads everything."""
    reader = Child("following", READER, str(data_dir))
    told: dict[str, float] = json.loads(reader.answer())
    reader.close()
    return told


def _figures(tenants: int, cost: Cost, first: int, alone: Cost) -> list[Figure]:
    def figure(what: str, unit: str, mine: float, theirs: float) -> Figure:
        few = f"{first} tenant{'s' if first > 1 else ''}"
        return Figure(f"{what}, {tenants:,} tenants", unit, Spread.of(mine), few, Spread.of(theirs))

    return [
        figure("opening one", "ms", cost.opening / tenants * 1e3, alone.opening / first * 1e3),
        figure("records/s over all", "records/s", cost.rate, alone.rate),
        figure("start of a sequencer", "s", cost.start, alone.start),
        figure("its memory", "MiB", cost.memory / _MIB, alone.memory / _MIB),
        figure("its open files", "files", cost.files, alone.files),
        figure("a new process reads all", "s", cost.reading, alone.reading),
        figure("memory of that process", "MiB", cost.reader_memory / _MIB, alone.reader_memory / _MIB),
    ]
