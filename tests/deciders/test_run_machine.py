"""Whatever is asked of a run, in whatever order: what is accepted keeps it consistent with a naive history of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from producers.deciders.context import LIMITS, Context, Decision, Rejected
from producers.deciders.registry import dump, load
from producers.deciders.run import RunState, decide, evolve
from schemas import commands as c
from schemas import events as e
from schemas.base import Command, Event
from tests.deciders.examples import LEARNING_RATE, NOW, make

STREAM = "run/run-1"
STATE_CHANGING = ("forward_backward", "optim_step", "load_state")


@dataclass
class Told:
    """An operation as an outsider keeps it: everything, for ever."""

    operation_id: bytes
    op_seq: int
    kind: str
    status: str = "pending"
    saves_optimizer: bool = True


class Runs(RuleBasedStateMachine):
    """Clients, a dispatcher and workers do as they like; the naive history beside the state is the oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.state: RunState | None = None
        self.events: list[Event] = []
        self.told: list[Told] = []
        self.sent = 0

    def send(self, command: Command) -> Decision:
        self.sent += 1
        ctx = Context(NOW, "acme", self.sent.to_bytes(16, "big"), "", bytes(32), STREAM)
        decision = decide(self.state, command, ctx)
        if isinstance(decision, tuple):
            assert decision
            for event in decision:
                self.state = evolve(self.state, event)
                self.events.append(event)
        return decision

    @property
    def run(self) -> RunState:
        assert self.state is not None
        return self.state

    def count(self, event: type[Event]) -> int:
        return sum(isinstance(each, event) for each in self.events)

    def pending(self) -> list[Told]:
        return [op for op in self.told if op.status == "pending"]

    @initialize(max_steps=st.none() | st.integers(1, 4))
    def create(self, max_steps: int | None) -> None:
        self.send(make(c.CreateRun, max_steps=max_steps))

    @rule(
        kind=st.sampled_from(
            [c.SubmitForwardBackward, c.SubmitOptimStep, c.SubmitSample, c.SubmitSaveState, c.SubmitLoadState]
        ),
        generation=st.none() | st.integers(0, 3),
        optimizer=st.booleans(),
    )
    def submit(self, kind: type[Any], generation: int | None, *, optimizer: bool) -> None:
        decision = self.send(make(kind, generation=generation, learning_rate=None, include_optimizer=optimizer))
        if isinstance(decision, tuple):
            (event,) = decision
            operation = self.run.pending[-1]
            told = Told(operation.operation_id, operation.op_seq, operation.kind, saves_optimizer=optimizer)
            assert event.op_seq == len(self.told) + 1  # type: ignore[attr-defined]
            self.told.append(told)
        else:
            self.must_be_refused(decision, generation, kind)

    def must_be_refused(self, refusal: Rejected, generation: int | None, kind: type[Any]) -> None:
        good = {
            "run_closed": self.count(e.RunClosed) == 1,
            "run_rolled_back": generation not in (None, self.count(e.RunRolledBack)),
            "quota_exceeded": len(self.pending()) >= LIMITS.unfinished_operations,
            "max_steps_reached": kind is c.SubmitOptimStep,
            "nothing_to_apply": kind is c.SubmitOptimStep,
        }
        assert good[refusal.code]

    @rule(epoch_back=st.integers(0, 1), skip=st.integers(0, 1), step=st.integers(0, 3))
    def report(self, epoch_back: int, skip: int, step: int) -> None:
        waiting = self.pending()
        if skip >= len(waiting):
            return
        told = waiting[skip]
        decision = self.send(self.outcome(told, self.run.lease_epoch - epoch_back, step))
        in_turn = skip == 0 and epoch_back == 0 and self.run.lease_epoch > 0
        possible = told.kind != "optim_step" or self.gathered() > 0
        assert isinstance(decision, tuple) == (in_turn and possible)
        if isinstance(decision, tuple):
            told.status = "completed"

    def gathered(self) -> int:
        """The batches since the last applied step or load, by the whole history."""
        kinds = [op.kind for op in self.told if op.status == "completed" and op.kind in STATE_CHANGING]
        return len(list(takewhile(lambda kind: kind == "forward_backward", reversed(kinds))))

    def outcome(self, told: Told, epoch: int, step: int) -> Any:
        common = {"operation_id": told.operation_id, "lease_epoch": epoch}
        if told.kind == "forward_backward":
            return make(c.CompleteForwardBackward, **common)
        if told.kind == "optim_step":
            return make(c.RecordStep, **common, step=self.run.step + 1, learning_rate=LEARNING_RATE)
        if told.kind == "sample":
            return make(c.CompleteSample, **common, step=self.run.step)
        if told.kind == "load_state":
            return make(c.RecordCheckpointLoaded, **common, step=step)
        through, at = self.boundary()
        return make(
            c.RecordCheckpoint,
            **common,
            step=at,
            through_op_seq=through,
            includes_optimizer=told.saves_optimizer,
            artifact_id=told.op_seq.to_bytes(16, "big"),
        )

    def boundary(self) -> tuple[int, int]:
        """The last completed step or load, and the step after it; else the newest durable state."""
        changes = [change for change in self.run.undurable if change.kind != "forward_backward"]
        return (changes[-1].op_seq, changes[-1].step) if changes else (self.run.durable.op_seq, self.run.durable.step)

    @precondition(lambda self: self.pending())
    @rule(code=st.sampled_from(["out_of_memory", "cancelled"]))
    def fail(self, code: str) -> None:
        told = self.pending()[0]
        asked = any(isinstance(x, e.CancellationRequested) and x.operation_id == told.operation_id for x in self.events)
        command = make(c.FailOperation, operation_id=told.operation_id, lease_epoch=self.run.lease_epoch, code=code)
        decision = self.send(command)
        assert isinstance(decision, tuple) == (self.run.lease_epoch > 0 and (code != "cancelled" or asked))
        if isinstance(decision, tuple):
            told.status = "failed"

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        told = data.draw(st.sampled_from(self.told))
        decision = self.send(make(c.RequestCancellation, operation_id=told.operation_id))
        assert told.status == "pending" or isinstance(decision, Rejected)

    @precondition(lambda self: self.state and self.state.lease_epoch)
    @rule(through=st.integers(0, 30), step=st.integers(0, 5))
    def checkpoint_at_random(self, through: int, step: int) -> None:
        self.save(through, step)

    @precondition(lambda self: self.state and self.state.lease_epoch)
    @rule()
    def checkpoint(self) -> None:
        assert isinstance(self.save(*self.boundary()), tuple)

    def save(self, through: int, step: int) -> Decision:
        decision = self.send(
            make(
                c.RecordCheckpoint,
                operation_id=None,
                name=None,
                lease_epoch=self.run.lease_epoch,
                through_op_seq=through,
                step=step,
                artifact_id=self.sent.to_bytes(16, "big"),
            )
        )
        if isinstance(decision, tuple):
            covered = [op for op in self.told if op.op_seq <= through]
            assert all(op.status != "pending" for op in covered)
        return decision

    @rule()
    def lease(self) -> None:
        before = self.run
        decision = self.send(make(c.GrantLease))
        if before.closed and not before.pending:
            assert isinstance(decision, Rejected)
            return
        assert isinstance(decision, tuple)
        lost = [
            op
            for op in self.told
            if op.op_seq > before.durable.op_seq
            and (op.status == "pending" or (op.status == "completed" and op.kind in STATE_CHANGING))
        ]
        if before.lease_epoch == 0 or not lost:
            assert [type(event) for event in decision] == [e.RunLeaseGranted]
            return
        rolled_back = decision[1]
        assert isinstance(rolled_back, e.RunRolledBack)
        assert rolled_back.lost_operations == len(lost)
        assert (rolled_back.lost_after_op_seq, rolled_back.lost_through_op_seq) == (
            before.durable.op_seq,
            len(self.told),
        )
        assert self.run.step == before.durable.step
        for op in lost:
            op.status = "lost"

    @precondition(lambda self: self.sent > 30)
    @rule()
    def close(self) -> None:
        self.send(make(c.CloseRun))

    @invariant()
    def the_state_says_what_the_history_says(self) -> None:
        if self.state is None:
            return
        run = self.run
        assert [op.operation_id for op in run.pending] == [op.operation_id for op in self.pending()]
        assert run.last_op_seq == len(self.told)
        assert run.generation == self.count(e.RunRolledBack)
        assert run.lease_epoch == self.count(e.RunLeaseGranted)
        assert run.closed == bool(self.count(e.RunClosed))

    @invariant()
    def what_is_not_durable_comes_after_what_is_and_before_what_is_pending(self) -> None:
        if self.state is None:
            return
        order = [
            self.run.durable.op_seq,
            *(x.op_seq for x in self.run.undurable),
            *(x.op_seq for x in self.run.pending),
        ]
        assert order == sorted(set(order))
        undurable = {change.op_seq for change in self.run.undurable}
        assert all(self.told[seq - 1].status == "completed" for seq in undurable)

    @invariant()
    def the_state_is_bounded_and_survives_a_snapshot(self) -> None:
        if self.state is None:
            return
        assert len(self.run.pending) <= LIMITS.unfinished_operations
        assert len(self.run.finished) <= LIMITS.remembered_operations
        assert load(STREAM, dump(self.run)) == self.run

    def teardown(self) -> None:
        folded: RunState | None = None
        for event in self.events:
            folded = evolve(folded, event)
        assert folded == self.state


TestRuns = Runs.TestCase
TestRuns.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
