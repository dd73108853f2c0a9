"""A real ledger without a sequencer of its own: whoever submits and waits decides inline."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tensorguard.ledger.record import outcome_id

from processors.placement.roster import LocalRoster
from processors.placement.standing import Standing
from processors.runners.embedded import EmbeddedRunner
from producers.feed import Feed
from producers.identities import make_envelope
from producers.installation import Installation
from producers.submitter import Submitter
from schemas import commands as c
from schemas import events as e
from schemas.types import LoraSpec, OptimizerSpec
from tests.support.ledgers import installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from processors.base import Intent
    from schemas.base import Command

TENANT = "acme"
LORA = LoraSpec(4, 8.0, 0.0, ("q_proj",), "none")
ADAMW = OptimizerSpec("adamw", 1e-3, 0.0, 0.9, 0.999, 1e-8)


class InlineLedger:
    """One installation with one tenant."""

    def __init__(self, data_dir: Path) -> None:
        self.installation = Installation.open(installed(data_dir))
        self.engine = self.installation.engine()
        self.submitter = Submitter(self.installation, self.engine)
        self.submitter.ensure_chain(TENANT)

    def ask(self, command: Command, run_id: str, command_id: bytes, role: str = "gateway") -> None:
        producer = self.installation.producer(role)
        envelope = make_envelope(
            command, chain=TENANT, stream=f"run/{run_id}", command_id=command_id, now=self.installation.clock()
        )
        self.submitter.submit_and_wait(producer, envelope).raise_for_outcome()

    def create_run(self, run_id: str, base: bytes = bytes(32), **given: Any) -> None:
        command = c.CreateRun(run_id, "m", base, bytes(32), LORA, ADAMW, 1, 1, None, 0, None, **given)
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

    def send(self, intent: Intent) -> None:
        """Have what a processor intends decided, whatever that is."""
        envelope = make_envelope(
            intent.command,
            chain=intent.chain,
            stream=intent.stream,
            command_id=outcome_id(intent.trigger, intent.kind),
            now=self.installation.clock(),
        )
        self.submitter.submit_and_wait(self.installation.producer("dispatcher"), envelope)

    def close(self) -> None:
        self.submitter.close()
        self.installation.close()


@contextmanager
def inline_ledger(data_dir: Path) -> Iterator[InlineLedger]:
    """A ledger for the length of a block."""
    ledger = InlineLedger(data_dir)
    yield ledger
    ledger.close()


def roster_of(*workers: str) -> LocalRoster:
    """A roster on which these trainers are."""
    roster = LocalRoster(lease_seconds=3600.0)
    for worker in workers:
        roster.announce(Standing(worker))
    return roster
