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
from tests.deciders.examples import ARTIFACT, LEARNING_RATE, NOW, make

STREAM = "run/run-1"
STATE_CHANGING = ("forward_backward", "optim_step", "load_state")
INPUTS = (c.SubmitForwardBackward, c.SubmitForward, c.SubmitSample)


@dataclass
class Told:
    """An operation as an outsider keeps it: everything, for ever."""

    operation_id: bytes
    op_seq: int
    kind: str
    interval: int | None = None
    status: str = "pending"
    whole: bool = True
    artifact: bytes | None = None
    step: int | None = None

    @property
    def changed(self) -> bool:
        """Whether it changed what its worker holds."""
        return self.status == "completed" and self.kind in STATE_CHANGING


class Runs(RuleBasedStateMachine):
    """Clients, a dispatcher, workers and retention do as they like; the naive history is the oracle."""

    sealed = False

    def __init__(self) -> None:
        super().__init__()
        self.state: RunState | None = None
        self.events: list[Event] = []
        self.told: list[Told] = []
        self.sent = 0
        self.accumulation: int | None = None
        self.max_steps: int | None = None
        self.durable = (0, 0)
        self.durable_artifact: bytes | None = None
        self.replaying = False
        self.saved: list[bytes] = []
        self.automatic: set[bytes] = set()
        self.deleting: set[bytes] = set()
        self.deleted: set[bytes] = set()
        self.destroyed: set[int] = set()

    def send(self, command: Command) -> Decision:
        self.sent += 1
        ctx = Context(NOW, "acme", self.sent.to_bytes(16, "big"), "", bytes(32), STREAM)
        decision = decide(self.state, command, ctx)
        assert decide(load(STREAM, dump(self.state)), command, ctx) == decision  # type: ignore[arg-type]
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

    def undurable(self) -> list[Told]:
        return [op for op in self.told if op.changed and op.op_seq > self.durable[0]]

    def idle(self) -> bool:
        return self.count(e.RunClosed) == 1 and not self.pending() and not self.replaying

    def gathered(self, *, ahead: bool = False) -> int:
        """The batches since the last step or load, by the whole history; with what is pending if it all completes."""
        kinds = [op.kind for op in self.told if op.changed or (ahead and op.status == "pending")]
        moves = [kind for kind in kinds if kind in STATE_CHANGING]
        return len(list(takewhile(lambda kind: kind == "forward_backward", reversed(moves))))

    def steps_ahead(self) -> int:
        step = self.run.step
        for op in self.pending():
            if op.kind == "optim_step":
                step += 1
            elif op.kind == "load_state" and op.step is not None:
                step = op.step
        return step

    # -- clients -----------------------------------------------------------------------------------------------------

    @initialize(max_steps=st.none() | st.integers(1, 4), accumulation=st.none() | st.integers(1, 3))
    def create(self, max_steps: int | None, accumulation: int | None) -> None:
        self.max_steps, self.accumulation = max_steps, accumulation
        self.send(
            make(
                c.CreateRun,
                max_steps=max_steps,
                gradient_accumulation_steps=accumulation,
                batch_retention="sealed" if self.sealed else "memory",
            )
        )

    @rule(
        kind=st.sampled_from([*INPUTS, c.SubmitForwardBackward, c.SubmitOptimStep, c.SubmitSaveState]),
        generation=st.none() | st.integers(0, 3),
        behind=st.integers(0, 5).map(lambda drawn: drawn == 0),
        whole=st.booleans(),
    )
    def submit(self, kind: type[Any], generation: int | None, *, behind: bool, whole: bool) -> None:
        interval = (self.durable[0] - behind) if self.sealed else None
        given = {"interval": interval} if kind in INPUTS else {}
        decision = self.send(make(kind, generation=generation, learning_rate=None, include_optimizer=whole, **given))
        self.take(kind, decision, generation, interval=given.get("interval"), whole=whole)

    @rule(data=st.data(), step=st.none() | st.integers(0, 3), whole=st.booleans())
    def load_checkpoint(self, data: st.DataObject, step: int | None, *, whole: bool) -> None:
        artifact = data.draw(st.sampled_from([ARTIFACT, *(each for each in self.saved if each not in self.deleted)]))
        decision = self.send(make(c.SubmitLoadState, artifact_id=artifact, step=step, include_optimizer=whole))
        self.take(c.SubmitLoadState, decision, None, artifact=artifact, step=step, whole=whole)

    def take(self, kind: type[Any], decision: Decision, generation: int | None, **asked: Any) -> None:
        if isinstance(decision, tuple):
            (event,) = decision
            assert event.op_seq == len(self.told) + 1  # type: ignore[attr-defined]
            assert asked.get("interval") not in self.destroyed
            operation = self.run.pending[-1]
            self.told.append(Told(operation.operation_id, operation.op_seq, operation.kind, **asked))
        else:
            assert self.grounds(kind, generation, asked)[decision.code]

    def grounds(self, kind: type[Any], generation: int | None, asked: dict[str, Any]) -> dict[str, bool]:
        """What each refusal of an operation needs to be true."""
        step, ahead = kind is c.SubmitOptimStep, self.gathered(ahead=True)
        return {
            "run_closed": self.count(e.RunClosed) == 1,
            "run_rolled_back": generation not in (None, self.count(e.RunRolledBack)),
            "quota_exceeded": len(self.pending()) >= LIMITS.unfinished_operations,
            "max_steps_reached": step and self.max_steps is not None and self.steps_ahead() >= self.max_steps,
            "nothing_to_apply": step and ahead == 0,
            "accumulation_incomplete": step and self.accumulation is not None and 0 < ahead != self.accumulation,
            "accumulation_full": kind is c.SubmitForwardBackward and ahead == self.accumulation,
            "interval_over": self.sealed and kind in INPUTS and asked["interval"] != self.durable[0],
            "not_found": any(
                isinstance(x, e.ArtifactDeletionRequested) and x.artifact_id == asked.get("artifact")
                for x in self.events
            ),
        }

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        told = data.draw(st.sampled_from(self.told))
        decision = self.send(make(c.RequestCancellation, operation_id=told.operation_id))
        assert told.status == "pending" or isinstance(decision, Rejected)

    @precondition(lambda self: self.sent > 30)
    @rule()
    def close(self) -> None:
        self.send(make(c.CloseRun))

    # -- a worker ----------------------------------------------------------------------------------------------------

    @rule(epoch_back=st.integers(0, 1), skip=st.integers(0, 1), step=st.integers(0, 3))
    def report(self, epoch_back: int, skip: int, step: int) -> None:
        waiting = self.pending()
        if skip >= len(waiting):
            return
        told = waiting[skip]
        in_turn = skip == 0 and epoch_back == 0 and self.run.lease_epoch > 0 and not self.replaying
        possible = self.possible(told)
        decision = self.send(self.outcome(told, self.run.lease_epoch - epoch_back, step))
        assert isinstance(decision, tuple) == (in_turn and possible)
        if isinstance(decision, tuple):
            told.status = "completed"
            self.now_durable(decision, told)

    def possible(self, told: Told) -> bool:
        gathered, exact = self.gathered(), self.accumulation
        if told.kind == "forward_backward":
            return exact is None or gathered < exact
        if told.kind == "optim_step":
            steps_left = self.max_steps is None or self.run.step < self.max_steps
            return steps_left and gathered > 0 and exact in (None, gathered)
        return True

    def outcome(self, told: Told, epoch: int, step: int) -> Any:
        common: dict[str, Any] = {"operation_id": told.operation_id, "lease_epoch": epoch}
        match told.kind:
            case "forward_backward":
                return make(c.CompleteForwardBackward, **common)
            case "forward":
                return make(c.CompleteForward, **common, step=self.run.step)
            case "optim_step":
                return make(c.RecordStep, **common, step=self.run.step + 1, learning_rate=LEARNING_RATE)
            case "sample":
                return make(c.CompleteSample, **common, step=self.run.step)
            case "load_state":
                at = step if told.step is None else told.step
                return make(c.RecordCheckpointLoaded, **common, step=at, artifact_id=told.artifact)
        through, at = self.boundary()
        return make(
            c.RecordCheckpoint,
            **common,
            step=at,
            through_op_seq=through,
            includes_optimizer=told.whole,
            artifact_id=told.op_seq.to_bytes(16, "big"),
        )

    def boundary(self) -> tuple[int, int]:
        """The last completed step or load, and the step after it; else the newest durable state."""
        changes = [change for change in self.run.undurable if change.kind != "forward_backward"]
        return (changes[-1].op_seq, changes[-1].step) if changes else self.durable

    def now_durable(self, decision: tuple[Event, ...], told: Told | None = None) -> None:
        """What an accepted outcome made durable, as the outsider sees it."""
        (event,) = decision
        if isinstance(event, e.CheckpointSaved):
            self.saved.append(event.artifact_id)
            self.automatic |= {event.artifact_id} if event.operation_id is None else set()
            if event.includes_optimizer and event.through_op_seq >= self.durable[0]:
                self.durable, self.durable_artifact = (event.through_op_seq, event.step), event.artifact_id
        elif isinstance(event, e.CheckpointLoaded) and told is not None and told.whole:
            self.durable, self.durable_artifact = (told.op_seq, event.step), event.artifact_id

    @precondition(lambda self: self.pending())
    @rule(code=st.sampled_from(["out_of_memory", "cancelled"]))
    def fail(self, code: str) -> None:
        told = self.pending()[0]
        asked = any(isinstance(x, e.CancellationRequested) and x.operation_id == told.operation_id for x in self.events)
        holding = self.run.lease_epoch > 0 and not self.replaying
        command = make(c.FailOperation, operation_id=told.operation_id, lease_epoch=self.run.lease_epoch, code=code)
        decision = self.send(command)
        assert isinstance(decision, tuple) == (holding and (code != "cancelled" or asked))
        if isinstance(decision, tuple):
            told.status = "failed"

    @precondition(lambda self: self.state and self.state.lease_epoch)
    @rule(through=st.integers(0, 30), step=st.integers(0, 5))
    def checkpoint_at_random(self, through: int, step: int) -> None:
        self.save(through, step)

    @precondition(lambda self: self.state and self.state.lease_epoch)
    @rule()
    def checkpoint(self) -> None:
        assert isinstance(self.save(*self.boundary()), tuple) != self.replaying

    def save(self, through: int, step: int) -> Decision:
        decision = self.send(
            make(
                c.RecordCheckpoint,
                operation_id=None,
                name=None,
                lease_epoch=self.run.lease_epoch,
                through_op_seq=through,
                step=step,
                artifact_id=(1 << 64 | self.sent).to_bytes(16, "big"),
            )
        )
        if isinstance(decision, tuple):
            covered = [op for op in self.told if op.op_seq <= through]
            assert all(op.status != "pending" for op in covered)
            self.now_durable(decision)
        return decision

    # -- who works on it ---------------------------------------------------------------------------------------------

    @rule()
    def lease(self) -> None:
        before, idle = self.run, self.idle()
        decision = self.send(make(c.GrantLease))
        assert isinstance(decision, Rejected) == idle
        if isinstance(decision, Rejected):
            return
        lost = self.at_stake()
        assert isinstance(decision[0], e.RunLeaseGranted)
        if self.sealed or before.lease_epoch == 0 or not lost:
            assert len(decision) == 1
            self.replaying = self.sealed and bool(self.undurable())
        else:
            self.lose(decision[1], lost)

    def at_stake(self) -> list[Told]:
        return sorted([*self.undurable(), *self.pending()], key=lambda op: op.op_seq)

    def lose(self, rolled_back: Event, lost: list[Told]) -> None:
        assert isinstance(rolled_back, e.RunRolledBack)
        assert rolled_back.lost_operations == len(lost)
        assert (rolled_back.lost_after_op_seq, rolled_back.lost_through_op_seq) == (self.durable[0], len(self.told))
        assert (self.run.step, rolled_back.artifact_id) == (self.durable[1], self.durable_artifact)
        for op in lost:
            op.status = "lost"

    @precondition(lambda self: self.state and self.state.lease_epoch)
    @rule(through=st.integers(-1, 1), same=st.booleans())
    def replay(self, through: int, *, same: bool) -> None:
        undurable = self.undurable()
        steps = [op for op in undurable if op.kind == "optim_step"]
        changes = {change.op_seq: change.step for change in self.run.undurable}
        decision = self.send(
            make(
                c.RecordReplay,
                lease_epoch=self.run.lease_epoch,
                through_op_seq=undurable[-1].op_seq + through if undurable else 0,
                steps=len(steps),
                identical=same,
                differing_step=None if same or not steps else changes[steps[0].op_seq],
            )
        )
        assert isinstance(decision, tuple) == (self.replaying and through == 0 and (same or bool(steps)))
        if isinstance(decision, tuple):
            self.replaying = False

    @precondition(lambda self: self.state and self.state.lease_epoch)
    @rule()
    def fail_replay(self) -> None:
        lost = self.at_stake()
        decision = self.send(make(c.FailReplay, lease_epoch=self.run.lease_epoch, code="batch_lost"))
        assert isinstance(decision, tuple) == self.replaying
        if isinstance(decision, tuple):
            self.replaying = False
            self.lose(decision[0], lost)

    # -- retention ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.sealed and self.told)
    @rule(data=st.data())
    def destroy_key(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted({0, *(op.interval for op in self.told if op.interval is not None)})))
        inputs = [op for op in self.told if op.interval == number]
        needed = any(op in self.at_stake() for op in inputs) or number == self.durable[0]
        waits = needed or any(op.op_seq > self.durable[0] and op.status != "lost" for op in inputs)
        decision = self.send(make(c.RecordBatchKeyDestroyed, interval=number))
        if isinstance(decision, tuple):
            assert self.idle() or not needed
            self.destroyed.add(number)
        elif decision.code == "not_found":
            assert not inputs or number in self.destroyed
        else:
            assert decision.code == "out_of_order"
            assert waits
            assert not self.idle()

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def ask_for_deletion(self, data: st.DataObject) -> None:
        artifact = data.draw(st.sampled_from(self.saved))
        decision = self.send(make(c.DeleteArtifact, artifact_id=artifact))
        known = artifact not in self.deleting | self.deleted
        assert isinstance(decision, tuple) == (known and not self.rests_on(artifact))
        if isinstance(decision, tuple):
            self.deleting.add(artifact)

    @precondition(lambda self: self.saved)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        artifact = data.draw(st.sampled_from(self.saved))
        decision = self.send(make(c.RecordArtifactDeleted, artifact_id=artifact))
        may_go = artifact in self.deleting or artifact in self.automatic
        assert isinstance(decision, tuple) == (may_go and artifact not in self.deleted and not self.rests_on(artifact))
        if isinstance(decision, tuple):
            self.deleted.add(artifact)

    def rests_on(self, artifact: bytes) -> bool:
        needed = [self.durable_artifact, *(op.artifact for op in self.at_stake())]
        return not self.idle() and artifact in needed

    # -- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def the_state_says_what_the_history_says(self) -> None:
        if self.state is None:
            return
        run = self.run
        assert [op.operation_id for op in run.pending] == [op.operation_id for op in self.pending()]
        assert [change.op_seq for change in run.undurable] == [op.op_seq for op in self.undurable()]
        assert run.last_op_seq == len(self.told)
        assert run.generation == self.count(e.RunRolledBack)
        assert run.lease_epoch == self.count(e.RunLeaseGranted)
        assert run.closed == bool(self.count(e.RunClosed))
        assert run.replaying == self.replaying
        assert (run.durable.op_seq, run.durable.step) == self.durable
        assert run.durable.artifact == self.durable_artifact

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

    @invariant()
    def a_sealed_run_loses_nothing_unless_a_replay_failed(self) -> None:
        losses = [event for event in self.events if isinstance(event, e.RunRolledBack)]
        assert all((event.cause_code == "batch_lost") == self.sealed for event in losses)
        assert losses or all(op.status != "lost" for op in self.told)

    @invariant()
    def what_a_new_worker_needs_is_there(self) -> None:
        """Its inputs under keys that exist, its checkpoints not deleted; a run without further work needs nothing."""
        if self.state is None or self.idle():
            return
        assert all(op.interval not in self.destroyed for op in self.at_stake() if op.interval is not None)
        assert not {op.artifact for op in self.at_stake()} & self.deleted
        assert self.durable_artifact not in self.deleted

    @invariant()
    def the_state_is_bounded_and_survives_a_snapshot(self) -> None:
        if self.state is None:
            return
        assert len(self.run.pending) <= LIMITS.unfinished_operations
        assert len(self.run.finished) <= LIMITS.remembered_operations
        assert len(self.run.intervals) <= LIMITS.sealed_intervals
        assert not self.destroyed & {interval.number for interval in self.run.intervals}
        assert load(STREAM, dump(self.run)) == self.run

    def teardown(self) -> None:
        folded: RunState | None = None
        for event in self.events:
            folded = evolve(folded, event)
        assert folded == self.state


class SealedRuns(Runs):
    """The same with inputs that are kept until nothing can need them."""

    sealed = True


TestRuns, TestSealedRuns = Runs.TestCase, SealedRuns.TestCase
TestRuns.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSealedRuns.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
