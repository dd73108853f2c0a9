"""How things stand at the moment of a scrape: what waits, what lags behind, and the processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from tensorguard.errors import TensorGuardError

from api.observability.ledger import PROCESSORS, processors, signed_size
from api.roll import rolls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from api.observability.ledger import Position
    from producers.engines.port import LogEngine
    from projections.projector import Projector
    from projections.queries import Views

OPERATIONS = ("forward_backward", "forward", "optim_step", "sample", "save_state", "load_state")
SERVER = "server"
_SECONDS_PER_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Standing:
    """Asks the parts of a server; a part that does not answer leaves its metrics out."""

    engine: LogEngine
    projector: Projector
    views: Views
    data_dir: Path

    def describe(self) -> Iterable[Metric]:
        """Nothing before it is asked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Everything that answers."""
        for part in (self._queue, self._ledger, self._intake, self._processors):
            try:
                yield from list(part())
            except TensorGuardError:
                continue

    def _queue(self) -> Iterator[Metric]:
        waiting = self.views.pending_operations()
        depth = GaugeMetricFamily("tensorguard_queue_depth", "Operations without an outcome.", labels=["kind"])
        for kind in OPERATIONS:
            depth.add_metric([kind], waiting.get(kind, 0))
        yield depth
        yield GaugeMetricFamily("tensorguard_open_runs", "Runs that take operations.", value=self.views.open_runs())

    def _ledger(self) -> Iterator[Metric]:
        sizes = self.engine.sizes()
        folded = self.projector.sizes()
        yield _gauge("ledger_records", "Records on the ledger.", sum(sizes.values()))
        yield from _lag("ledger_lag", "the views do not hold yet", sizes, lambda chain: folded.get(chain, 0))
        yield from _lag("signer_lag", "no checkpoint covers yet", sizes, lambda chain: signed_size(self.engine, chain))
        yield _gauge("ledger_epoch", "The newest epoch of a writer.", self.engine.epoch())

    def _intake(self) -> Iterator[Metric]:
        yield _gauge("intake_entries", "Commands that wait for their decision.", self.engine.waiting())
        yield _gauge("dead_letters", "Commands that could not be decided.", len(self.engine.quarantined()))

    def _processors(self) -> Iterator[Metric]:
        words, label = "Records that a processor has not read", ["processor"]
        behind = GaugeMetricFamily("tensorguard_processor_lag_records", f"{words}, over all chains.", labels=label)
        most = GaugeMetricFamily("tensorguard_processor_lag_records_most", f"{words}, of one chain.", labels=label)
        for processor, lag in _by_processor(processors(self.engine.sizes(), self.data_dir)).items():
            behind.add_metric([processor], sum(lag.values()))
            most.add_metric([processor], max(lag.values(), default=0))
        yield from (behind, most)


def _by_processor(positions: Iterable[Position]) -> dict[str, dict[str, int]]:
    """Each processor's lag by chain, of several processes the last. One that does not run has none."""
    found: dict[str, dict[str, int]] = {}
    for position in positions:
        if position.lag is not None and position.reader in PROCESSORS:
            lag = found.setdefault(position.reader, {})
            lag |= {chain: max(behind, lag.get(chain, 0)) for chain, behind in position.lag.items()}
    return found


def _lag(name: str, words: str, sizes: Mapping[str, int], reached: Callable[[str], int]) -> Iterator[Metric]:
    behind = [max(0, size - reached(chain)) for chain, size in sizes.items()]
    yield _gauge(f"{name}_records", f"Records that {words}, over all chains.", sum(behind))
    yield _gauge(
        f"{name}_records_most", f"Records of one chain that {words}, on the worst one.", max(behind, default=0)
    )


def _gauge(name: str, words: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"tensorguard_{name}", words, value=value)


@dataclass(frozen=True, slots=True)
class Processes:
    """The server and its children, read from ``/proc``: a process that is gone has no figures.

    ``running`` gives the children's process ids by name (None: it does not run), ``starts`` how often each was started;
    ``server`` the process that keeps them.
    """

    running: Callable[[], Mapping[str, int | None]]
    starts: Callable[[], Mapping[str, int]]
    server: Callable[[], int | None] = os.getpid

    @classmethod
    def of_machine(cls, data_dir: Path) -> Processes:
        """Those that the supervisors of this machine keep on a data directory."""
        return cls(
            lambda: {name: pid for roll in rolls(data_dir) for name, pid in roll.running.items()},
            lambda: {name: count for roll in rolls(data_dir) for name, count in roll.starts.items()},
            lambda: next((roll.supervisor for roll in rolls(data_dir)), None),
        )

    def describe(self) -> Iterable[Metric]:
        """Nothing before it is asked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One sample for each process."""
        label = ["process"]
        up = GaugeMetricFamily("tensorguard_process_up", "Whether it runs.", labels=label)
        started = CounterMetricFamily("tensorguard_process_starts", "How often it was started.", labels=label)
        memory = GaugeMetricFamily("tensorguard_process_resident_bytes", "Resident memory.", labels=label)
        cpu = CounterMetricFamily("tensorguard_process_cpu_seconds", "User and system time.", labels=label)
        for name, pid in {SERVER: self.server(), **self.running()}.items():
            usage = usage_of(pid)
            up.add_metric([name], usage is not None)
            if usage is not None:
                memory.add_metric([name], usage.resident_bytes)
                cpu.add_metric([name], usage.cpu_seconds)
        for name, count in self.starts().items():
            started.add_metric([name], count)
        yield from (up, started, memory, cpu)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses."""

    resident_bytes: int
    cpu_seconds: float


def usage_of(pid: int | None) -> Usage | None:
    """From ``/proc/PID/stat``, which any user may read; None for a process that is gone or a zombie."""
    if pid is None:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, user, system, pages = fields[0], int(fields[11]), int(fields[12]), int(fields[21])
    return None if state in "ZX" else Usage(pages * _PAGE_BYTES, (user + system) * _SECONDS_PER_TICK)
