"""What is counted of decisions; the process that decides counts, whichever that is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from producers.engines.port import ACCEPTED
from schemas import events as e

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from producers.sequencer.observing import Decided, Round
    from schemas.base import Event

UNKNOWN = "unknown"
_COMMIT = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class DecisionMetrics:
    """Counts every micro-batch; no label grows with tenants or runs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"tensorguard_{name}", words, labels, registry=registry)

        self._commands = counter("commands", "Commands that were decided.", "command", "outcome")
        self._turned_away = counter("rejected_commands", "Commands that were rejected or refused.", "code")
        self._events = counter("events", "Records that were written, by event.", "event")
        self._leases = counter("leases", "Leases of runs that were granted.")
        self._replays = counter("replays", "Replays of runs after a loss of memory.", "identical")
        self._tokens = counter("tokens", "Tokens trained on, evaluated and generated.", "kind")
        self._saved = counter("checkpoint_bytes", "Bytes of checkpoints that were saved.")
        words = "From the intake to the synced ledger."
        self._commits = Histogram("tensorguard_commit_seconds", words, buckets=_COMMIT, registry=registry)

    def committed(self, batch: Round) -> None:
        """The sequencer committed a micro-batch."""
        self._commits.observe((batch.ended - batch.began) / 1e9)
        for each in batch.decided:
            self._decided(each)

    def _decided(self, each: Decided) -> None:
        # A command that was refused is of whatever type a stranger claims.
        known = each.envelope is not None and each.events
        command = each.envelope.command_type if known and each.envelope else UNKNOWN
        self._commands.labels(command, each.outcome).inc()
        if each.outcome != ACCEPTED:
            self._turned_away.labels(each.code).inc()
        for event in each.events:
            self._events.labels(type(event).__name__).inc()
            self._count(event)

    def _count(self, event: Event) -> None:
        match event:
            case e.RunLeaseGranted():
                self._leases.inc()
            case e.RunReplayed():
                self._replays.labels(str(event.identical).lower()).inc()
            case e.CheckpointSaved():
                self._saved.inc(event.size_bytes)
            case e.ForwardBackwardCompleted():
                self._tokens.labels("trained").inc(event.tokens)
            case e.ForwardCompleted():
                self._tokens.labels("evaluated").inc(event.tokens)
            case e.SampleCompleted():
                self._tokens.labels("generated").inc(event.tokens_generated)
