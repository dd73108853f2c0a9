"""What is counted while it happens. Each platform has a registry of its own; no label grows with tenants or runs.

Where a server has several processes, the one that is asked answers for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from producers.sequencer.metrics import UNKNOWN, DecisionMetrics
from producers.telemetry.counting import Together

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from producers.sequencer.observing import Round

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SHORT = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one server: told by the doors and the sequencer, read by a scrape."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._asked = CollectorRegistry()
        self._requests = self._counter("requests", "Requests that were answered.", "method", "route", "status")
        self._latency = self._histogram("request_seconds", "From a request to its answer.", _SHORT, "method", "route")
        self._decisions = DecisionMetrics(self._registry)

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

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"tensorguard_{name}", words, labels, registry=self._registry)

    def _histogram(self, name: str, words: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"tensorguard_{name}", words, labels, buckets=buckets, registry=self._registry)
