"""The ledger of a few runs in memory, decided as a sequencer decides, and a store that can end the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tensorguard.ledger.record import Meta, outcome_id

from processors.base import Intent, Recorded
from processors.blobs.file import FileBlobStore
from producers.deciders.context import Context, Rejected
from producers.deciders.run import RunState, decide, evolve
from schemas import commands as c
from schemas import events as e
from schemas.base import Command, Event
from tests.deciders.examples import NOW, make

TENANT, RUN = "acme", "run-1"


class Crash(BaseException):
    """The process ends here."""


class Breaking(FileBlobStore):
    """A file store that ends the process before or after its n-th change, when told to."""

    left: float = float("inf")

    def _change(self, act: Callable[[], Any]) -> Any:
        self.left -= 0.5
        if self.left < 0:
            raise Crash
        done = act()
        self.left -= 0.5
        if self.left < 0:
            raise Crash
        return done

    def delete(self, name: str) -> None:
        self._change(lambda: super(Breaking, self).delete(name))

    def destroy(self, name: str) -> None:
        self._change(lambda: super(Breaking, self).destroy(name))

    def delete_below(self, folder: str) -> None:
        self._change(lambda: super(Breaking, self).delete_below(folder))


@dataclass
class Ledger:
    """Runs of one tenant. What is recorded is never lost; who follows it starts where it likes."""

    records: list[Recorded] = field(default_factory=list)
    states: dict[str, RunState | None] = field(default_factory=dict)
    replied: set[bytes] = field(default_factory=set)
    numbers: Any = field(default_factory=count)

    def ask(self, command: Command, operation_id: bytes | None = None) -> bytes | Rejected:
        """Have a command decided; its id, or why it was refused."""
        command_id = operation_id or next(self.numbers).to_bytes(16, "big")
        run_id: str = command.run_id  # type: ignore[attr-defined]
        ctx = Context(NOW, TENANT, command_id, "", bytes(32), f"run/{run_id}")
        decision = decide(self.states.get(run_id), command, ctx)
        if isinstance(decision, Rejected):
            return decision
        for event in decision:
            self._append(run_id, event)
        return command_id

    def report(self, intent: Intent) -> bytes | Rejected | None:
        """Have a processor's intent decided; None if it was before."""
        command_id = outcome_id(intent.trigger, intent.kind)
        if command_id in self.replied:
            return None
        self.replied.add(command_id)
        return self.ask(intent.command, command_id)

    def expire(self, intent: Intent) -> None:
        """Refuse a processor's intent, which waited for too long."""
        command_id, name = outcome_id(intent.trigger, intent.kind), type(intent.command).__name__
        self.replied.add(command_id)
        run_id: str = intent.command.run_id  # type: ignore[attr-defined]
        self._append(run_id, e.CommandRejected(command_id, name, intent.stream, "expired", "Its time is over."))

    def state(self, run_id: str = RUN) -> RunState:
        """A run as the deciders fold it."""
        state = self.states[run_id]
        assert state is not None
        return state

    def events(self, kind: type[Any]) -> list[Any]:
        """What was recorded of a kind."""
        return [each.event for each in self.records if isinstance(each.event, kind)]

    def _append(self, run_id: str, event: Event) -> None:
        self.states[run_id] = evolve(self.states.get(run_id), event)
        seq = len(self.records)
        meta = Meta(bytes(32), TENANT, seq, 1, bytes(32), seq.to_bytes(16, "big"), f"run/{run_id}", 0, NOW, *[None] * 3)
        self.records.append(Recorded(TENANT, seq, meta, event, b""))

    # -- short words for what a run goes through ---------------------------------------------------------------------

    def create(self, run_id: str = RUN, **given: Any) -> None:
        given = {"batch_retention": "sealed", "gradient_accumulation_steps": None, **given}
        assert isinstance(self.ask(make(c.CreateRun, run_id=run_id, **given)), bytes)
        self.lease(run_id)

    def lease(self, run_id: str = RUN) -> None:
        self.ask(make(c.GrantLease, run_id=run_id))

    def batch(self, run_id: str = RUN, interval: int | None = None, operation_id: bytes | None = None) -> Any:
        number = self.state(run_id).durable.op_seq if interval is None else interval
        return self.ask(make(c.SubmitForwardBackward, run_id=run_id, interval=number), operation_id)

    def finish(self, run_id: str = RUN) -> bool:
        """Complete the next operation; whether there was one."""
        state = self.state(run_id)
        if not state.pending or state.replaying:
            return False
        operation = state.pending[0]
        said = {"run_id": run_id, "operation_id": operation.operation_id, "lease_epoch": state.lease_epoch}
        kinds = {"forward_backward": c.CompleteForwardBackward, "optim_step": c.RecordStep, "sample": c.CompleteSample}
        step = state.step + (operation.kind == "optim_step")
        assert isinstance(self.ask(make(kinds[operation.kind], **said, step=step)), bytes)
        return True

    def step(self, run_id: str = RUN) -> None:
        assert isinstance(self.ask(make(c.SubmitOptimStep, run_id=run_id, learning_rate=None)), bytes)

    def save(self, run_id: str = RUN, *, artifact: bytes | None = None) -> bytes | None:
        """An automatic checkpoint of the newest state that one can be made of; its artifact."""
        state = self.state(run_id)
        steps = [change for change in state.undurable if change.kind != "forward_backward"]
        through, step = (steps[-1].op_seq, steps[-1].step) if steps else (state.durable.op_seq, state.durable.step)
        artifact = artifact or (b"artifact" + len(self.records).to_bytes(8, "big"))
        command = make(
            c.RecordCheckpoint,
            run_id=run_id,
            operation_id=None,
            name=None,
            lease_epoch=state.lease_epoch,
            artifact_id=artifact,
            step=step,
            through_op_seq=through,
        )
        return artifact if isinstance(self.ask(command), bytes) else None

    def durable(self, run_id: str = RUN) -> bytes:
        """A batch, a step, and a checkpoint of it; its artifact."""
        self.batch(run_id)
        self.step(run_id)
        while self.finish(run_id):
            pass
        artifact = self.save(run_id)
        assert artifact is not None
        return artifact


def deletions(ledger: Ledger) -> list[bytes]:
    """The artifacts that the ledger says are gone."""
    return [event.artifact_id for event in ledger.events(e.ArtifactDeleted)]


def destructions(ledger: Ledger) -> list[int]:
    """The intervals whose keys the ledger says are gone."""
    return [event.interval for event in ledger.events(e.BatchKeyDestroyed)]
