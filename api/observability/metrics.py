"""What is counted while it happens. Each platform has a registry of its own; no label grows with tenants or runs.

Where a server has several processes, the one that is asked answers for all of them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily

from processors.errors import ChannelError
from processors.measures import Measures
from producers.sequencer.metrics import UNKNOWN, DecisionMetrics
from producers.telemetry.counting import Together

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.registry import Collector

    from processors.channel import Connection
    from producers.sequencer.observing import Round

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CHECKPOINT = "checkpoint"
"""The name under which a trainer reports how long a checkpoint took; every other name is a kind of operation."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
KINDS = frozenset({"forward_backward", "forward", "optim_step", "sample", "save_state", "load_state", "replay"})
LEVELS = {
    "adapters": ("tensorguard_adapters_in_memory", "Adapters and their optimizers that the trainer holds."),
    "base_models": ("tensorguard_base_models_in_memory", "Base models that the trainer holds."),
    "device_bytes": ("tensorguard_device_memory_bytes", "Bytes of an accelerator's memory in use by tensors."),
}
_SHORT = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
log = structlog.get_logger(__name__)
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one server: told by the doors, the sequencer and the side channel, read by a scrape."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._asked = CollectorRegistry()
        self._requests = self._counter("requests", "Requests that were answered.", "method", "route", "status")
        self._latency = self._histogram("request_seconds", "From a request to its answer.", _SHORT, "method", "route")
        self._decisions = DecisionMetrics(self._registry)
        self._operations = self._histogram("operation_seconds", "Execution of an operation.", _LONG, "kind")
        self._saving = self._histogram("checkpoint_seconds", "Sealing, storing and reading back.", _LONG)
        self._passed = self._counter("side_channel_bytes", "Bytes to and from the trainer.", "direction")
        self._levels = _ChildLevels()
        self.watch(self._levels)

    def watch(self, collector: Collector) -> None:
        """Ask this at every scrape, too."""
        self._asked.register(collector)

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format 0.0.4."""
        return generate_latest(self._counted()) + generate_latest(self._asked)

    def _counted(self) -> CollectorRegistry:
        together = Together.of_this_process()
        if together is None:
            return self._registry
        registry = CollectorRegistry()
        registry.register(together)
        return registry

    def answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is its template, None where there is none."""
        method, route = method if method in METHODS else UNKNOWN, route or UNKNOWN
        self._requests.labels(method, route, status).inc()
        self._latency.labels(method, route).observe(seconds)

    def committed(self, batch: Round) -> None:
        """The sequencer committed a micro-batch."""
        self._decisions.committed(batch)

    def passed(self, received: int, sent: int) -> None:
        """A child's request and its answer passed through the side channel."""
        self._passed.labels("from_trainer").inc(received)
        self._passed.labels("to_trainer").inc(sent)

    def measured(self, connection: Connection, data: bytes) -> None:
        """A child reported."""
        try:
            measures = Measures.from_bytes(data)
        except ChannelError:
            log.warning("measures_malformed")
            return
        for name, times in measures.times.items():
            for seconds in times:
                self._took(name, seconds)
        self._levels.put(id(connection), measures.levels)

    def gone(self, connection: Connection) -> None:
        """A child is gone, and with it what it held."""
        self._levels.drop(id(connection))

    def _took(self, name: str, seconds: float) -> None:
        if name == CHECKPOINT:
            self._saving.observe(seconds)
        elif name in KINDS:
            self._operations.labels(name).observe(seconds)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"tensorguard_{name}", words, labels, registry=self._registry)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"tensorguard_{name}", words, labels, buckets=buckets, registry=self._registry)


class _ChildLevels:
    """The newest levels of each child that is connected; those of all of them are added up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[int, Mapping[str, float]] = {}

    def put(self, child: int, levels: Mapping[str, float]) -> None:
        with self._lock:
            self._of[child] = levels

    def drop(self, child: int) -> None:
        with self._lock:
            self._of.pop(child, None)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        with self._lock:
            held = list(self._of.values())
        for key, (name, words) in LEVELS.items():
            yield GaugeMetricFamily(name, words, value=sum(levels.get(key, 0) for levels in held))
