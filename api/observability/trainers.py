"""What trainers measured and what the exchange holds, as the hub has summed it up: the same at every door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from processors.exchange.errors import ExchangeAwayError
from processors.exchange.measured import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import Metric

    from processors.exchange.port import Exchange, Figures

CHECKPOINT = "checkpoint"
"""The name under which a trainer reports how long a checkpoint took; every other name is a kind of operation."""
KINDS = ("forward_backward", "forward", "optim_step", "sample", "save_state", "load_state", "replay")
LEVELS = {
    "adapters": ("tensorguard_adapters_in_memory", "Adapters and their optimizers that trainers hold."),
    "base_models": ("tensorguard_base_models_in_memory", "Base models that trainers hold."),
    "device_bytes": ("tensorguard_device_memory_bytes", "Bytes of an accelerator's memory in use by tensors."),
}


@dataclass(frozen=True, slots=True)
class Trainers:
    """Asks the exchange; while it is away there are none of these figures."""

    exchange: Exchange

    def describe(self) -> Iterable[Metric]:
        """Nothing before it is asked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """What it says."""
        try:
            figures = self.exchange.figures()
        except ExchangeAwayError:
            return
        yield from _times(figures)
        yield from _bytes(figures)
        for key, (name, words) in LEVELS.items():
            yield GaugeMetricFamily(name, words, value=figures.levels.get(key, 0))
        yield GaugeMetricFamily("tensorguard_trainers_ready", "Trainers that execute.", value=len(figures.ready))


def _times(figures: Figures) -> Iterator[Metric]:
    name, words = "tensorguard_operation_seconds", "Execution of an operation."
    operations = HistogramMetricFamily(name, words, labels=["kind"])
    for kind in KINDS:
        if kind in figures.times:
            times = figures.times[kind]
            operations.add_metric([kind], times.cumulative(), times.total)
    saved = figures.times.get(CHECKPOINT, Histogram())
    saving = HistogramMetricFamily("tensorguard_checkpoint_seconds", "Sealing, storing and reading back.")
    saving.add_metric([], saved.cumulative(), saved.total)
    yield from (operations, saving)


def _bytes(figures: Figures) -> Iterator[Metric]:
    held = GaugeMetricFamily("tensorguard_exchange_held_bytes", "Bytes in memory.", labels=["what"])
    held.add_metric(["inputs"], figures.input_bytes)
    held.add_metric(["results"], figures.result_bytes)
    passed = CounterMetricFamily("tensorguard_exchange_bytes", "Bytes to and from trainers.", labels=["direction"])
    passed.add_metric(["from_trainer"], figures.received)
    passed.add_metric(["to_trainer"], figures.sent)
    yield from (held, passed)
