"""A ledger on a data directory of its own with its sequencer in a thread, written to as the gateway does."""

from __future__ import annotations

import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensorguard.ledger.envelope import Envelope
from tensorguard.ledger.export import PLATFORM

from producers.clock import system_clock
from producers.identities import Producer, make_envelope
from producers.installation import Installation
from producers.sequencer import Sequencer, SequencerLock
from producers.submitter import Submitter
from schemas.commands import CreateRun, SubmitForwardBackward
from schemas.types import LoraSpec, OptimizerSpec

CHAIN = "bench"
PER_RUN = 64
"""Operations that a run takes before the first outcome."""


@dataclass
class TimedEngine:
    """The real engine; ``seconds`` sums up the time spent in the calls that a record passes through."""

    engine: Any
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def submit(self, commands: Sequence[bytes]) -> Any:
        return self._timed("submit", self.engine.submit, commands)

    def commit(self, commit: Any) -> None:
        self._timed("commit", self.engine.commit, commit)

    def wait_reply(self, command_id: bytes, timeout: float, chain: str | None = None) -> Any:
        return self._timed("wait_reply", self.engine.wait_reply, command_id, timeout, chain)

    def _timed(self, name: str, call: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.seconds[name] += time.perf_counter() - start


@dataclass
class Ledger:
    """An open ledger with one tenant's chain."""

    installation: Installation
    engine: TimedEngine
    submitter: Submitter
    gateway: Producer

    def submissions(self, count: int) -> list[Envelope]:
        """That many forward_backward commands, on as many fresh runs as they need."""
        runs = self._open_runs(-(-count // PER_RUN))
        return [self._submission(runs[number // PER_RUN]) for number in range(count)]

    def append(self, envelope: Envelope) -> None:
        """One command, signed, taken in, decided and committed."""
        self.submitter.submit_and_wait(self.gateway, envelope).raise_for_outcome()

    def append_many(self, envelopes: Sequence[Envelope]) -> None:
        """Commands with a signature each; returns when the last one is committed."""
        for envelope in envelopes[:-1]:
            self.submitter.submit(self.gateway, [envelope])
        self.append(envelopes[-1])

    def newest_record_bytes(self) -> int:
        return len(self.engine.read(CHAIN, self.engine.size(CHAIN) - 1, 1)[0])

    def _open_runs(self, count: int) -> list[str]:
        run_ids = [secrets.token_hex(8) for _ in range(count)]
        envelopes = [self._envelope(run_id, new_run(run_id)) for run_id in run_ids]
        self.submitter.submit(self.gateway, envelopes)
        for envelope in envelopes:
            self.submitter.wait(envelope.command_id, CHAIN).raise_for_outcome()
        return run_ids

    def _submission(self, run_id: str) -> Envelope:
        return self._envelope(run_id, SubmitForwardBackward(run_id, secrets.token_bytes(32), 8, 1024, None))

    def _envelope(self, run_id: str, command: Any) -> Envelope:
        return make_envelope(
            command,
            chain=CHAIN,
            stream=f"run/{run_id}",
            command_id=secrets.token_bytes(16),
            now=system_clock(),
            correlation=secrets.token_bytes(16),
        )


@contextmanager
def open_ledger(data_dir: Path) -> Iterator[Ledger]:
    """Make an installation and run its sequencer until the block ends."""
    installation = Installation.open(data_dir)
    engine = TimedEngine(installation.engine())
    submitter = Submitter(installation, engine)
    lock = SequencerLock(installation.data_dir)
    stop = threading.Event()
    sequencer = threading.Thread(target=Sequencer.of(installation, engine).run, args=(stop,), name="sequencer")
    lock.acquire()
    sequencer.start()
    try:
        submitter.ensure_chain(PLATFORM)
        submitter.ensure_chain(CHAIN)
        yield Ledger(installation, engine, submitter, installation.producer("gateway"))
    finally:
        stop.set()
        sequencer.join()
        submitter.close()
        lock.close()
        installation.close()


def new_run(run_id: str) -> CreateRun:
    """A command that opens a run."""
    return CreateRun(
        run_id=run_id,
        model="base",
        manifest_digest=bytes(32),
        tokenizer_digest=bytes(32),
        lora=LoraSpec(8, 16.0, 0.0, ("q_proj", "v_proj"), "none"),
        optimizer=OptimizerSpec("adamw", 1e-3, 0.0, 0.9, 0.999, 1e-8),
        batch_size=8,
        gradient_accumulation_steps=None,
        max_steps=None,
        seed=7,
        metadata_commitment=None,
    )
