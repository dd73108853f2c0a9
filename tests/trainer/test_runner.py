from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from processors.base import Intent
from processors.placement.dispatcher import Dispatcher
from processors.runners.embedded import EmbeddedRunner
from producers.engines.errors import StorageFullError
from producers.engines.sqlite import SqliteEngine
from producers.identities import make_envelope
from schemas import commands as c
from schemas import events as e
from tests.support.inline_ledger import TENANT, InlineLedger, inline_ledger, roster_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from processors.base import Recorded
    from schemas.base import Event


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[InlineLedger]:
    with inline_ledger(tmp_path / "data") as ledger:
        yield ledger


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


def test_a_broken_processor_does_not_stop_the_others(ledger: InlineLedger) -> None:
    ledger.create_run("a")
    ledger.drain(ledger.runner(Broken(), Malformed(), Dispatcher(roster_of("w1"))))
    assert ledger.leases() == [("a", "w1", 1)]


class FullAtFirst(SqliteEngine):
    """A real ledger on a disk that is full for the first commands."""

    refusals = 2

    def submit(self, commands: Sequence[bytes]) -> Sequence[int]:
        if self.refusals:
            self.refusals -= 1
            raise StorageFullError("There is no space left.")
        return super().submit(commands)


def test_what_could_not_be_sent_is_sent_later(ledger: InlineLedger) -> None:
    ledger.create_run("a")
    engine, stop = FullAtFirst(ledger.installation.data_dir / "ledger.db"), threading.Event()
    runner = EmbeddedRunner(ledger.installation, engine, [Dispatcher(roster_of("w1"))])
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    assert ledger.engine.wait_intake(ledger.engine.intake_position(), 30)
    ledger.submitter.submit_and_wait(*_harmless(ledger))
    stop.set()
    thread.join(10)
    engine.close()
    assert not thread.is_alive()
    assert ledger.leases() == [("a", "w1", 1)]


def _harmless(ledger: InlineLedger) -> tuple[Any, Any]:
    command = c.CloseRun("a")
    now = ledger.installation.clock()
    envelope = make_envelope(command, chain=TENANT, stream="run/a", command_id=b"h" * 16, now=now)
    return ledger.installation.producer("gateway"), envelope
