"""How long one command takes on Kafka, from its signature to its committed answer, by the load that is offered."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tensorguard.ledger.envelope import Envelope

from tests.bench.harness import Figure, Spread, seconds
from tests.bench.kafka import KafkaLedger, RawProducer, open_kafka_ledger
from tests.bench.sizes import KafkaLatencySize

RAW = "a transaction of one record by a bare producer, one after another"
MILLISECONDS = 1e3
_RECORD_BYTES = 700
_WAITING = 128
_PERCENTILES = (50, 99)


def run(size: KafkaLatencySize, work: Path) -> list[Figure]:
    """Percentiles of a command's latency by commands offered a second, whether the ledger keeps up or not."""
    with open_kafka_ledger(work / "data") as ledger, ThreadPoolExecutor(_WAITING) as pool:
        raw = RawProducer(ledger.config)
        _offer(ledger, pool, ledger.submissions(size.warm_up), size.rates[0])
        rounds = [_round(ledger, raw, pool, size) for _ in range(size.rounds)]
    found = {name: [each[name] for each in rounds] for name in rounds[0]}
    return [_figure(name, percent, found) for name in found if name != RAW for percent in _PERCENTILES]


def _round(
    ledger: KafkaLedger, raw: RawProducer, pool: ThreadPoolExecutor, size: KafkaLatencySize
) -> dict[str, list[float]]:
    record = [(b"0", secrets.token_bytes(_RECORD_BYTES))]
    found = {RAW: [seconds(lambda: raw.send(record, 1)) for _ in range(size.transactions)]}
    for rate in size.rates:
        envelopes = ledger.submissions(rate * size.seconds)
        found[f"{rate} commands/s"] = _offer(ledger, pool, envelopes, rate)
    return found


def _offer(ledger: KafkaLedger, pool: ThreadPoolExecutor, envelopes: Sequence[Envelope], rate: int) -> list[float]:
    """Seconds from the moment at which each command was due to its answer."""
    start = time.perf_counter()

    def one(number: int, envelope: Envelope) -> float:
        ledger.append(envelope)
        return time.perf_counter() - (start + number / rate)

    answers = []
    for number, envelope in enumerate(envelopes):
        time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        answers.append(pool.submit(one, number, envelope))
    return [answer.result() for answer in answers]


def _figure(name: str, percent: int, found: dict[str, list[list[float]]]) -> Figure:
    ours, theirs = (
        Spread(tuple(_percentile(each, percent) for each in found[which])).scaled(MILLISECONDS) for which in (name, RAW)
    )
    return Figure(f"p{percent} at {name}", "ms", ours, f"p{percent} of {RAW}", theirs)


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
