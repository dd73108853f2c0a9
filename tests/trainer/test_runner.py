from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from processors.base import Intent
from processors.dispatcher import Dispatcher, worker_id
from processors.runners.embedded import EmbeddedRunner
from producers.engines.errors import StorageFullError
from producers.engines.sqlite import SqliteEngine
from producers.feed import Feed
from producers.identities import HOUR, make_envelope
from producers.installation import Installation
from producers.submitter import Submitter
from schemas import commands as c
from schemas import events as e
from schemas.types import LoraSpec, OptimizerSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from processors.base import Recorded
    from schemas.base import Command, Event

TENANT = "acme"
LORA = LoraSpec(4, 8.0, 0.0, ("q_proj",), "none")
ADAMW = OptimizerSpec("adamw", 1e-3, 0.0, 0.9, 0.999, 1e-8)


class Ledger:
    """A real ledger without a sequencer of its own: whoever submits and waits decides inline."""

    def __init__(self, data_dir: Path) -> None:
        self.installation = Installation.open(data_dir)
        self.engine = self.installation.engine()
        self.submitter = Submitter(self.installation, self.engine)
        self.submitter.ensure_chain(TENANT)

    def ask(self, command: Command, run_id: str, command_id: bytes, role: str = "gateway") -> None:
        producer = self.installation.producer(role)
        envelope = make_envelope(
            command, chain=TENANT, stream=f"run/{run_id}", command_id=command_id, now=self.installation.clock()
        )
        self.submitter.submit_and_wait(producer, envelope).raise_for_outcome()

    def create_run(self, run_id: str, **given: Any) -> None:
        command = c.CreateRun(run_id, "m", bytes(32), bytes(32), LORA, ADAMW, 1, 1, None, 0, None, **given)
        self.ask(command, run_id, run_id.encode().ljust(16, b"\0"))

    def runner(self, *processors: Any) -> EmbeddedRunner:
        return EmbeddedRunner(self.installation, self.engine, processors)

    def drain(self, runner: EmbeddedRunner) -> None:
        """Let a runner handle everything, and what it sent be decided."""
        while runner.step() or self.engine.intake(self.engine.intake_position(), 1):
            self.submitter.ensure_chain(TENANT)

    def leases(self) -> list[tuple[str, str, int]]:
        found = [r.event for r in Feed(self.engine).poll(10_000)]
        return [(x.run_id, x.worker, x.lease_epoch) for x in found if isinstance(x, e.RunLeaseGranted)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.submitter.close()
    ledger.installation.close()


def test_every_run_gets_a_lease_once(ledger: Ledger) -> None:
    dispatcher = Dispatcher("w1")
    runner = ledger.runner(dispatcher)
    ledger.create_run("a")
    ledger.drain(runner)
    ledger.create_run("b")
    ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1), ("b", "w1", 1)]


def test_a_restart_with_the_same_worker_grants_nothing_again(ledger: Ledger) -> None:
    ledger.create_run("a")
    ledger.drain(ledger.runner(Dispatcher("w1")))
    ledger.drain(ledger.runner(Dispatcher("w1")))
    assert ledger.leases() == [("a", "w1", 1)]


def test_a_new_worker_takes_over_open_runs_and_those_with_work_left(ledger: Ledger) -> None:
    for run_id in ("open", "closed", "closing"):
        ledger.create_run(run_id)
    ledger.ask(c.SubmitSample("closing", bytes(32), 1, 1, 0.0, 1.0, None, None), "closing", b"s" * 16)
    for run_id in ("closed", "closing"):
        ledger.ask(c.CloseRun(run_id), run_id, f"close {run_id}".encode().ljust(16, b"\0"))
    ledger.drain(ledger.runner(Dispatcher("w1")))
    ledger.drain(ledger.runner(Dispatcher("w2")))
    assert ledger.leases() == [("open", "w1", 1), ("closing", "w1", 1), ("open", "w2", 2), ("closing", "w2", 2)]
    ledger.drain(ledger.runner(Dispatcher("w3")))
    assert ledger.leases()[4:] == [("open", "w3", 3)]


def test_a_closed_run_whose_state_is_being_computed_again_is_not_left_so(ledger: Ledger) -> None:
    ledger.create_run("a", batch_retention="sealed")
    ledger.drain(ledger.runner(Dispatcher("w1")))
    ledger.ask(c.SubmitForwardBackward("a", bytes(32), 1, 1, None, 0), "a", b"b" * 16)
    ledger.ask(c.CompleteForwardBackward("a", b"b" * 16, 1, 1.0, 1.0, 1), "a", b"c" * 16, "worker")
    ledger.drain(ledger.runner(Dispatcher("w2")))
    ledger.ask(c.CloseRun("a"), "a", b"close".ljust(16, b"\0"))
    ledger.drain(ledger.runner(Dispatcher("w3")))
    assert ledger.leases()[2:] == [("a", "w3", 3)]
    ledger.ask(c.RecordReplay("a", 3, 1, 0, bytes(32), True, None, None), "a", b"r" * 16, "worker")
    ledger.drain(ledger.runner(Dispatcher("w4")))
    assert len(ledger.leases()) == 3


def test_a_living_dispatcher_can_be_given_another_worker(ledger: Ledger) -> None:
    dispatcher = Dispatcher()
    runner = ledger.runner(dispatcher)
    ledger.create_run("a")
    ledger.drain(runner)
    assert ledger.leases() == []
    for name in ("w1", "w2"):
        dispatcher.assign(name)
        ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1), ("a", "w2", 2)]


def test_a_worker_id_is_bound_to_the_workers_key(ledger: Ledger) -> None:
    worker = ledger.installation.producer("worker")
    assert worker_id(worker).startswith(worker.key_id.hex())
    assert worker_id(worker) != worker_id(worker)


class Broken:
    """A processor with a bug."""

    name = "broken"
    role = "dispatcher"
    events: ClassVar[frozenset[type[Event]]] = frozenset({e.RunCreated})

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        raise KeyError(recorded.seq)


class Malformed(Broken):
    """A processor that intends what no schema can hold."""

    name = "malformed"

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        command: Any = c.GrantLease(run_id="a", worker=3)  # type: ignore[arg-type]
        return [Intent(recorded.chain, "run/a", command, b"", "x")]


def test_a_broken_processor_does_not_stop_the_others(ledger: Ledger) -> None:
    ledger.create_run("a")
    ledger.drain(ledger.runner(Broken(), Malformed(), Dispatcher("w1")))
    assert ledger.leases() == [("a", "w1", 1)]


class FullAtFirst(SqliteEngine):
    """A real ledger on a disk that is full for the first commands."""

    refusals = 2

    def submit(self, commands: Sequence[bytes]) -> Sequence[int]:
        if self.refusals:
            self.refusals -= 1
            raise StorageFullError("There is no space left.")
        return super().submit(commands)


def test_a_lease_that_was_asked_for_in_vain_is_asked_for_again_after_a_pause(ledger: Ledger) -> None:
    seconds = [0.0]
    runner = ledger.runner(Dispatcher("w1", lambda: seconds[0]))
    ledger.create_run("a")
    now = ledger.installation.clock
    ledger.installation.clock = lambda: now() - 2 * HOUR
    ledger.drain(runner)
    ledger.installation.clock = now
    ledger.drain(runner)
    assert ledger.leases() == []
    seconds[0] = 1.0
    ledger.drain(runner)
    assert ledger.leases() == [("a", "w1", 1)]


def test_what_could_not_be_sent_is_sent_later(ledger: Ledger) -> None:
    ledger.create_run("a")
    engine, stop = FullAtFirst(ledger.installation.data_dir / "ledger.db"), threading.Event()
    runner = EmbeddedRunner(ledger.installation, engine, [Dispatcher("w1")])
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    assert ledger.engine.wait_intake(ledger.engine.intake_position(), 30)
    ledger.submitter.submit_and_wait(*_harmless(ledger))
    stop.set()
    thread.join(10)
    engine.close()
    assert not thread.is_alive()
    assert ledger.leases() == [("a", "w1", 1)]


def _harmless(ledger: Ledger) -> tuple[Any, Any]:
    command = c.CloseRun("a")
    now = ledger.installation.clock()
    envelope = make_envelope(command, chain=TENANT, stream="run/a", command_id=b"h" * 16, now=now)
    return ledger.installation.producer("gateway"), envelope
