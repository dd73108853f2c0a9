"""Sealed records a second on Kafka, acknowledged to who submitted them, beside a bare transactional producer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tensorguard.ledger.envelope import Envelope

from tests.bench.harness import Figure, in_threads, interleave, seconds
from tests.bench.kafka import KafkaLedger, RawProducer, Taken, as_sent, open_kafka_ledger
from tests.bench.ledger import CHAIN
from tests.bench.sequencing import COMMIT, PROCESS, STAGES
from tests.bench.sizes import KafkaAppendsSize

AS_SIGNED = "bare producer, a transaction for as many records as a signature covers"
AS_OURS = "bare producer, as many records per transaction as ours had"
MICROSECONDS = 1e6


@dataclass(frozen=True)
class Load:
    """``batch`` commands under each signature, by ``writers`` that each wait for all of theirs before the next."""

    batch: int
    writers: int

    @property
    def name(self) -> str:
        """As the figures call it."""
        signed = "commands signed one by one" if self.batch == 1 else f"signed batches of {self.batch}"
        return f"{signed}, {self.writers} at once"


@dataclass(frozen=True)
class Round:
    """What one round of ours took: seconds, the processor time of both sides, and the records as Kafka holds them."""

    elapsed: float
    client: float
    taken: Taken
    sent: Sequence[tuple[bytes, bytes]]

    @property
    def per_commit(self) -> int:
        """Records of a transaction."""
        return max(1, round(len(self.sent) / self.taken[COMMIT].calls))

    @property
    def rate(self) -> float:
        """Records a second."""
        return len(self.sent) / self.elapsed


def run(size: KafkaAppendsSize, work: Path) -> list[Figure]:
    """Records a second by the number of commands under one signature; then where a command's time goes."""
    with open_kafka_ledger(work / "data") as ledger:
        raw = RawProducer(ledger.config)
        loads = [Load(*each) for each in size.loads]
        measure(ledger, loads[-1], size.records)  # so that every schema is on the chain
        figures = [_rates(ledger, raw, load, size) for load in loads]
        ledger.sequencing.taken(watch=True)
        stages = [_stages(measure(ledger, load, size.records)) for load in loads]
    noted = [replace(each[-1], note=f"{each[-1].note}; {told}") for each, told in zip(figures, stages, strict=True)]
    return [figure for each, last in zip(figures, noted, strict=True) for figure in (*each[:-1], last)]


def measure(ledger: KafkaLedger, load: Load, records: int) -> Round:
    """Sign, submit and await so many commands; preparing them is not counted."""
    envelopes, start = ledger.submissions(records), ledger.engine.size(CHAIN)
    batches = [envelopes[at : at + load.batch] for at in range(0, records, load.batch)]
    ledger.sequencing.taken()
    client = time.process_time()
    elapsed = seconds(lambda: _submit(ledger, batches, load.writers))
    client = time.process_time() - client
    taken = ledger.sequencing.taken()
    return Round(elapsed, client, taken, as_sent(ledger.engine, start, ledger.engine.size(CHAIN)))


def _submit(ledger: KafkaLedger, batches: Sequence[Sequence[Envelope]], writers: int) -> None:
    shares = [batches[number::writers] for number in range(writers)]
    in_threads([partial(_submit_share, ledger, share) for share in shares])


def _submit_share(ledger: KafkaLedger, batches: Sequence[Sequence[Envelope]]) -> None:
    for batch in batches:
        ledger.submitter.submit(ledger.gateway, batch)
        for envelope in batch:
            ledger.submitter.wait(envelope.command_id, envelope.chain).raise_for_outcome()


def _rates(ledger: KafkaLedger, raw: RawProducer, load: Load, size: KafkaAppendsSize) -> list[Figure]:
    """Ours beside transactions of as many records as a signature covers, and as our own transactions had."""
    rounds = [measure(ledger, load, size.records)]

    def ours() -> float:
        rounds.append(measure(ledger, load, size.records))
        return rounds[-1].rate

    def sent(per_transaction: int) -> float:
        records = rounds[-1].sent
        return len(records) / seconds(lambda: raw.send(records, per_transaction))

    contenders = {"ours": ours, AS_OURS: lambda: sent(rounds[-1].per_commit)}
    if load.batch > 1:
        contenders[AS_SIGNED] = lambda: sent(load.batch)
    found = interleave(size.rounds, contenders)
    strict = Figure(load.name, "records/s", found["ours"], AS_OURS, found[AS_OURS], note=_about(rounds[-1]))
    if load.batch == 1:
        return [strict]
    return [Figure(load.name, "records/s", found["ours"], AS_SIGNED, found[AS_SIGNED], at_least=size.goal), strict]


def _about(last: Round) -> str:
    count, commit = len(last.sent), last.taken[COMMIT]
    return (
        f"{last.per_commit} records per transaction; {commit.wall / last.elapsed:.0%} of the time within commits; "
        f"processor time per record: who submits {last.client / count * MICROSECONDS:.0f} µs, "
        f"the sequencer {last.taken[PROCESS].cpu / count * MICROSECONDS:.0f} µs"
    )


def _stages(timed: Round) -> str:
    """What each stage of the sequencer takes of its processor time; the rest is batching, replies and clients."""
    taken = timed.taken
    whole = taken[PROCESS].cpu
    parts = {name: taken[name].cpu / whole for name in (*STAGES, COMMIT)}
    parts["the rest"] = 1 - sum(parts.values())
    shares = ", ".join(f"{name} {part:.0%}" for name, part in parts.items())
    return f"of the sequencer's {whole / len(timed.sent) * MICROSECONDS:.0f} µs, timed stage by stage: {shares}"
