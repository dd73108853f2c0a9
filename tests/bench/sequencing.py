"""``python -m tests.bench.sequencing DATA_DIR``: a sequencer in a process of its own that says where its time goes.

It prints a line when it decides, and for each line on its standard input what it has spent since the one before. Its
stages are timed one by one from the line ``stages`` on: that takes time itself.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producers.deciders import engine as judge
from producers.engines.kafka.writer import Writer
from producers.engines.opening import open_engine
from producers.installation import Installation
from producers.sequencer import Limits, Sequencer, seal
from producers.sequencer.fold import ChainFold
from tests.bench.__main__ import quiet

READY = "ready"
WATCH = "stages"
PROCESS = "process"
COMMIT = "commit"
_LIMITS = Limits(snapshot_every=10**9)
"""No snapshots meanwhile: operations that nobody ever finishes would make them larger than those of any real chain."""
STAGES: Mapping[str, tuple[Any, str]] = {
    "decode": (judge, "present"),
    "verify": (judge, "authenticate"),
    "decide": (judge, "judge"),
    "encode": (seal, "compose_record"),
    "hash": (seal, "leaf_hash"),
    "fold": (ChainFold, "apply"),
}
"""What a command passes through before the commit, by the functions that do it; each is called on one thread."""


@dataclass
class Spent:
    """Processor and elapsed seconds of a stage, and its calls."""

    cpu: float = 0.0
    wall: float = 0.0
    calls: int = 0


@dataclass
class Stopwatches:
    """What each stage has taken since it was asked last."""

    spent: defaultdict[str, Spent] = field(default_factory=lambda: defaultdict(Spent))

    def attach(self, name: str, owner: Any, function: str) -> None:
        """Have every call of a function counted as a stage."""
        setattr(owner, function, self._timed(getattr(owner, function), self.spent[name]))

    def taken(self) -> dict[str, dict[str, float]]:
        """What every stage has taken; from here on anew."""
        found = {name: dict(vars(spent)) for name, spent in self.spent.items()}
        for spent in self.spent.values():
            spent.cpu, spent.wall, spent.calls = 0.0, 0.0, 0
        return found

    @staticmethod
    def _timed(call: Callable[..., Any], spent: Spent) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            cpu, wall = time.thread_time(), time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                spent.cpu += time.thread_time() - cpu
                spent.wall += time.perf_counter() - wall
                spent.calls += 1

        return timed


def main(data_dir: Path) -> None:
    """Decide until standard input ends."""
    installation = Installation.open(data_dir)
    engine = open_engine(installation.settings, data_dir, partition=0)
    sequencer, stop = Sequencer.of(installation, engine, _LIMITS, partition=0), threading.Event()
    sequencer.open()
    watches = Stopwatches()
    watches.attach(COMMIT, Writer, "commit")
    thread = threading.Thread(target=sequencer.run, args=(stop,), name="sequencer")
    thread.start()
    _say(READY)
    before = time.process_time()
    for line in sys.stdin:
        if line.strip() == WATCH:
            for name, (owner, function) in STAGES.items():
                watches.attach(name, owner, function)
        now = time.process_time()
        _say(json.dumps({**watches.taken(), PROCESS: vars(Spent(cpu=now - before))}))
        before = now
    stop.set()
    thread.join()
    engine.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    quiet()
    main(Path(sys.argv[1]))
