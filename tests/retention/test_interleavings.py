"""Whatever is done in whatever order: what a replay may need opens, and no key outlives its cover."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processors.batches.errors import InputDamagedError
from processors.retention.processor import ORPHAN_SECONDS, SWEEP_SECONDS
from schemas import commands as c
from tests.deciders.examples import make
from tests.retention.desk import Desk
from tests.retention.ledger import RUN, TENANT, Crash, deletions, destructions


class Interleavings(RuleBasedStateMachine):
    """One sealed run; the deciders' state says what is pending and what a replay would compute again."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.desk = Desk(self.folder)
        self.desk.ledger.create()
        self.inputs: dict[int, tuple[int, bytes]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def closed(self) -> bool:
        return self.desk.ledger.state().closed

    @precondition(lambda self: not self.closed())
    @rule()
    def submit(self) -> None:
        number = self.desk.ledger.state().durable.op_seq
        operation_id = self.desk.submit()
        self.inputs[self.desk.ledger.state().last_op_seq] = (number, operation_id)

    @rule()
    def seal_and_crash(self) -> None:
        try:
            self.desk.put()
        except InputDamagedError:  # A crash left the key half destroyed: only where nobody may seal any more.
            assert self.desk.ledger.state().idle()

    @precondition(lambda self: not self.closed())
    @rule()
    def step(self) -> None:
        self.desk.ledger.ask(make(c.SubmitOptimStep, learning_rate=None))

    @rule(times=st.integers(1, 6))
    def finish(self, times: int) -> None:
        for _ in range(times):
            self.desk.ledger.finish()

    @rule()
    def save(self) -> None:
        if artifact := self.desk.ledger.save():
            self.desk.store(artifact)

    @rule()
    def lose_the_worker(self) -> None:
        self.desk.ledger.lease()

    @rule(found=st.booleans())
    def end_the_replay(self, *, found: bool) -> None:
        state = self.desk.ledger.state()
        steps = sum(change.kind == "optim_step" for change in state.undurable)
        said = {"lease_epoch": state.lease_epoch, "adapter_digest": state.digest or bytes(32), "plan": None}
        through = state.undurable[-1].op_seq if state.undurable else 0
        replayed = make(c.RecordReplay, through_op_seq=through, steps=steps, **said)
        self.desk.ledger.ask(
            replayed if found else make(c.FailReplay, lease_epoch=state.lease_epoch, code="batch_lost")
        )

    @rule()
    def close(self) -> None:
        self.desk.ledger.ask(make(c.CloseRun))

    @rule(left=st.integers(0, 12), seconds=st.sampled_from([0.0, SWEEP_SECONDS, ORPHAN_SECONDS]))
    def retain_and_crash(self, left: int, seconds: float) -> None:
        self.desk.seconds += seconds
        self.desk.blobs.left = left / 2
        try:
            self.desk.work()
        except Crash:
            self.desk.restart()
        self.desk.blobs.left = float("inf")

    @rule()
    def retain(self) -> None:
        self.desk.seconds += SWEEP_SECONDS
        self.desk.work()
        state = self.desk.ledger.state()
        live = {state.durable.op_seq} | {each.number for each in state.intervals if not state.covered(each)}
        assert self.desk.keys() <= (set() if state.idle() else live)

    @invariant()
    def what_may_be_needed_opens(self) -> None:
        state = self.desk.ledger.state()
        batches = [each.op_seq for each in (*state.pending, *state.undurable) if each.kind == "forward_backward"]
        for op_seq in batches if not state.idle() else ():
            number, operation_id = self.inputs[op_seq]
            assert self.desk.inputs.get(TENANT, RUN, number, operation_id) == operation_id

    @invariant()
    def what_is_said_to_be_gone_is_gone(self) -> None:
        said = destructions(self.desk.ledger)
        assert len(said) == len(set(said))
        assert not {each.hex() for each in deletions(self.desk.ledger)} & self.desk.artifacts()

    @invariant()
    def the_durable_state_can_be_resumed_from(self) -> None:
        state = self.desk.ledger.state()
        assert state.idle() or state.durable.artifact is None or state.durable.artifact.hex() in self.desk.artifacts()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
