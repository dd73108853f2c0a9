"""Processor time of a message that is followed: by a Faust worker, by our own runner, by a bare consumer."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.bench.following import BARE, EMBEDDED, FAUST, KINDS
from tests.bench.harness import Figure, Spread
from tests.bench.kafka import Child, KafkaLedger, open_kafka_ledger
from tests.bench.kafka_appends import Load, measure
from tests.bench.ledger import CHAIN
from tests.bench.sizes import KafkaFaustSize

MICROSECONDS = 1e6
_LOAD = Load(16, 4)


def run(size: KafkaFaustSize, work: Path) -> list[Figure]:
    """Microseconds of processor time a message, in processes that do nothing else and follow the same load."""
    with ExitStack() as stack:
        ledger = stack.enter_context(open_kafka_ledger(work / "data"))
        followers = {kind: Child("following", kind, str(work / "data")) for kind in KINDS}
        for follower in followers.values():
            stack.callback(follower.close)
        rounds = [_round(ledger, followers, size, number) for number in range(size.rounds + 1)]
    found = {kind: Spread(tuple(each[kind] for each in rounds[1:])) for kind in KINDS}
    return [
        _figure("a Faust worker", found[FAUST], "a bare consumer", found[BARE]),
        _figure("a Faust worker", found[FAUST], "the embedded runner", found[EMBEDDED]),
        _figure("the embedded runner", found[EMBEDDED], "a bare consumer", found[BARE]),
    ]


def _round(ledger: KafkaLedger, followers: dict[str, Child], size: KafkaFaustSize, number: int) -> dict[str, float]:
    """Of each follower; the first round also counts how they started."""
    measure(ledger, _LOAD, size.messages)
    counted = size.messages * (number + 1)
    for kind, follower in followers.items():
        follower.tell(str(ledger.engine.size(CHAIN) if kind == BARE else counted))
    return {kind: float(follower.answer()) * MICROSECONDS / size.messages for kind, follower in followers.items()}


def _figure(name: str, ours: Spread, baseline: str, theirs: Spread) -> Figure:
    added = ours.median - theirs.median
    return Figure(name, "µs of processor time a message", ours, baseline, theirs, note=f"adds {added:.0f} µs a message")
