"""How much each benchmark does: what ``make bench`` takes, and a size that a test runs in a moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A Llama with random weights; sequences may have 128 tokens."""

    hidden: int
    layers: int


@dataclass(frozen=True, slots=True)
class TrainingSize:
    """``steps`` per round; ``ahead`` is how many steps a pipelining client has in flight."""

    model: ModelSize
    rows: int
    columns: int
    steps: int
    rounds: int
    ahead: int = 4


@dataclass(frozen=True, slots=True)
class AppendsSize:
    """Records per round and contender, and the writers that share them."""

    records: int
    rounds: int
    writers: tuple[int, ...] = (1, 16)


@dataclass(frozen=True, slots=True)
class VerificationSize:
    """Records of the ledger that is verified."""

    records: int
    rounds: int


@dataclass(frozen=True, slots=True)
class CheckpointSize:
    """A LoRA adapter of every linear layer; with its optimizer it is saved as three times its size."""

    model: ModelSize
    rank: int
    rounds: int


@dataclass(frozen=True, slots=True)
class MemorySize:
    """``runs`` on one base after the first, each with a LoRA adapter of every linear layer."""

    model: ModelSize
    rank: int
    runs: int


@dataclass(frozen=True, slots=True)
class ReadsSize:
    """Requests a second, and for how many seconds; as many runs are there to be read."""

    rate: int
    seconds: int
    runs: int
    rounds: int


@dataclass(frozen=True, slots=True)
class SamplingSize:
    """``requests`` of one prompt each, and how many tokens at most come of one."""

    model: ModelSize
    requests: int
    tokens: int
    rounds: int


@dataclass(frozen=True, slots=True)
class StartSize:
    """How many cold starts."""

    rounds: int


@dataclass(frozen=True, slots=True)
class WatchingSize:
    """Requests per round and contender."""

    requests: int
    rounds: int


@dataclass(frozen=True, slots=True)
class KafkaAppendsSize:
    """Records per round and contender; ``loads``: commands under one signature, and writers at once."""

    records: int
    rounds: int
    loads: tuple[tuple[int, int], ...] = ((1, 32), (16, 8), (16, 32), (64, 4))
    goal: float = 0.6


@dataclass(frozen=True, slots=True)
class KafkaLatencySize:
    """Commands offered a second, and for how many seconds; transactions of the bare producer."""

    rates: tuple[int, ...]
    seconds: int
    transactions: int
    warm_up: int
    rounds: int


@dataclass(frozen=True, slots=True)
class KafkaProjectionSize:
    """Records of the chain that is read; ``load``: how many are put there at once."""

    records: int
    load: int
    rounds: int


@dataclass(frozen=True, slots=True)
class KafkaChainsSize:
    """Numbers of tenants, and records that are spread over all of them."""

    tenants: tuple[int, ...]
    records: int


@dataclass(frozen=True, slots=True)
class KafkaFaustSize:
    """Messages per round and contender."""

    messages: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """One size per benchmark, under its name."""

    training: TrainingSize
    long_steps: TrainingSize
    appends: AppendsSize
    verification: VerificationSize
    checkpoint: CheckpointSize
    memory: MemorySize
    retention: TrainingSize
    reads: ReadsSize
    start: StartSize
    sampling: SamplingSize
    watching: WatchingSize
    kafka_appends: KafkaAppendsSize
    kafka_latency: KafkaLatencySize
    kafka_projection: KafkaProjectionSize
    kafka_chains: KafkaChainsSize
    kafka_faust: KafkaFaustSize


FULL = Sizes(
    training=TrainingSize(ModelSize(256, 6), rows=12, columns=128, steps=10, rounds=7),
    long_steps=TrainingSize(ModelSize(512, 8), rows=12, columns=128, steps=4, rounds=5),
    appends=AppendsSize(records=960, rounds=5),
    verification=VerificationSize(records=10_000, rounds=5),
    checkpoint=CheckpointSize(ModelSize(256, 6), rank=384, rounds=9),
    memory=MemorySize(ModelSize(512, 16), rank=16, runs=3),
    retention=TrainingSize(ModelSize(256, 6), rows=12, columns=128, steps=10, rounds=9),
    reads=ReadsSize(rate=500, seconds=10, runs=20, rounds=3),
    start=StartSize(rounds=3),
    sampling=SamplingSize(ModelSize(256, 4), requests=16, tokens=64, rounds=5),
    watching=WatchingSize(requests=100, rounds=7),
    kafka_appends=KafkaAppendsSize(records=3200, rounds=5),
    kafka_latency=KafkaLatencySize(rates=(10, 100, 500), seconds=10, transactions=200, warm_up=100, rounds=3),
    kafka_projection=KafkaProjectionSize(records=12_800, load=128, rounds=5),
    kafka_chains=KafkaChainsSize(tenants=(1, 100, 1000), records=3200),
    kafka_faust=KafkaFaustSize(messages=3200, rounds=5),
)
TINY = Sizes(
    training=TrainingSize(ModelSize(32, 2), rows=2, columns=16, steps=2, rounds=1),
    long_steps=TrainingSize(ModelSize(32, 4), rows=2, columns=16, steps=2, rounds=1),
    appends=AppendsSize(records=16, rounds=1, writers=(1, 2)),
    verification=VerificationSize(records=64, rounds=1),
    checkpoint=CheckpointSize(ModelSize(32, 2), rank=4, rounds=1),
    memory=MemorySize(ModelSize(128, 4), rank=64, runs=1),
    retention=TrainingSize(ModelSize(32, 2), rows=2, columns=16, steps=2, rounds=1),
    reads=ReadsSize(rate=20, seconds=1, runs=1, rounds=1),
    start=StartSize(rounds=1),
    sampling=SamplingSize(ModelSize(32, 2), requests=3, tokens=4, rounds=1),
    watching=WatchingSize(requests=2, rounds=1),
    kafka_appends=KafkaAppendsSize(records=16, rounds=1, loads=((1, 2), (4, 2))),
    kafka_latency=KafkaLatencySize(rates=(20,), seconds=1, transactions=2, warm_up=1, rounds=1),
    kafka_projection=KafkaProjectionSize(records=16, load=8, rounds=1),
    kafka_chains=KafkaChainsSize(tenants=(1, 2), records=4),
    kafka_faust=KafkaFaustSize(messages=8, rounds=1),
)
