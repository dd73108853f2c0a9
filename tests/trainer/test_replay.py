"""A sealed run whose worker is lost goes on bit for bit, wherever that happened."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from processors.catalogue import model_dir
from processors.trainer.device import Compute
from processors.trainer.replay import Replay
from processors.trainer.runs import Change
from schemas import commands as c
from schemas import events as e
from tests.support.tiny_platform import LORA, TENANT, TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.tiny_platform import TinyRun

SLOW = {"checkpoint_steps": 1000, "checkpoint_seconds": 1000.0}
BATCHES = [[[1 + (i * 7 + j * k) % 300 for k in range(6 + j)] for j in range(2)] for i in range(5)]
SEALED = "sealed"


def _load(run: TinyRun) -> bytes:
    saved = next(event for event in run.platform.events(run.run_id) if isinstance(event, e.CheckpointSaved))
    return run.load_state(saved, include_optimizer=False)


SCENARIO: list[Callable[[TinyRun], bytes]] = [
    lambda run: run.forward_backward(BATCHES[0]),
    lambda run: run.forward_backward(BATCHES[1]),
    lambda run: run.optim_step(),
    lambda run: run.save_state("weights", include_optimizer=False),
    lambda run: run.forward(BATCHES[4]),
    lambda run: run.forward_backward(BATCHES[2]),
    lambda run: run.optim_step(1e-3, 0.05),
    lambda run: run.sample(["to be"], 3),
    _load,
    lambda run: run.forward_backward(BATCHES[3]),
    lambda run: run.optim_step(),
]


@pytest.fixture
def platform(tmp_path: Path, model_dir: Path) -> Iterator[TinyPlatform]:
    with TinyPlatform(tmp_path / "data", model_dir) as platform:
        yield platform


def _do(run: TinyRun, operations: list[Callable[[TinyRun], bytes]]) -> list[Any]:
    return [run.outcome(operation(run)) for operation in operations]


def _digests(platform: TinyPlatform, run: TinyRun) -> list[bytes]:
    return [event.adapter_digest for event in platform.events(run.run_id) if isinstance(event, e.StepApplied)]


def _replays(platform: TinyPlatform, run: TinyRun) -> list[e.RunReplayed]:
    return [event for event in platform.events(run.run_id) if isinstance(event, e.RunReplayed)]


def _lost(platform: TinyPlatform, run: TinyRun) -> list[Any]:
    bad = e.RunRolledBack | e.OperationFailed
    return [event for event in platform.events(run.run_id) if isinstance(event, bad)]


def test_a_run_goes_on_bit_for_bit_wherever_its_worker_was_lost(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        whole = platform.create_run("whole", batch_retention=SEALED)
        _do(whole, SCENARIO)
        cut = {
            count: platform.create_run(f"after-{count}", batch_retention=SEALED) for count in range(1, len(SCENARIO))
        }
        for count, run in cut.items():
            _do(run, SCENARIO[:count])
        with platform.worker(**SLOW) as second:
            for count, run in cut.items():
                platform.wait_for_lease(run.run_id, second)
                _do(run, SCENARIO[count:])
    wanted = _digests(platform, whole)
    for run in cut.values():
        assert _digests(platform, run) == wanted
        assert _lost(platform, run) == []
        replayed = _replays(platform, run)
        assert [replay.identical for replay in replayed] == [True]
    assert [replay.steps for replay in _replays(platform, cut[10])] == [2]
    assert [replay.through_op_seq for replay in _replays(platform, cut[5])] == [3]


def test_what_waits_keeps_its_futures(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("waiting", batch_retention=SEALED)
        run.train(seed=1, steps=2)
        platform.assign("a-worker-that-never-comes")
        platform.wait_for_lease("waiting", "a-worker-that-never-comes")
        waiting = [operation(run) for operation in SCENARIO[:3]]
        with platform.worker(**SLOW):
            assert isinstance(run.outcome(waiting[2]), e.StepApplied)
    assert _lost(platform, run) == []
    assert len(_replays(platform, run)) == 1


def test_only_what_no_checkpoint_covers_is_done_again(platform: TinyPlatform) -> None:
    with platform.worker(checkpoint_steps=2, checkpoint_seconds=1000.0):
        whole = platform.create_run("whole", batch_retention=SEALED)
        whole.train(seed=3, steps=4)
        run = platform.create_run("cut", batch_retention=SEALED)
        run.train(seed=3, steps=2)
        platform.wait_for("cut", lambda event: isinstance(event, e.CheckpointSaved))
        # A batch of the same seed is the same: the third and fourth step's batches follow the first two's.
        rows = [[[1 + (3 * 31 + i * 7 + j * k) % 300 for k in range(6 + j)] for j in range(2)] for i in range(4)]
        _do(run, [lambda r: r.forward_backward(rows[2]), lambda r: r.optim_step()])
        with platform.worker(**SLOW):
            _do(run, [lambda r: r.forward_backward(rows[3]), lambda r: r.optim_step()])
    assert _digests(platform, run) == _digests(platform, whole)
    assert [replay.steps for replay in _replays(platform, run)] == [1]


def test_a_replay_that_is_cut_short_is_begun_again(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        whole = platform.create_run("whole", batch_retention=SEALED)
        _do(whole, SCENARIO)
        run = platform.create_run("thrice", batch_retention=SEALED)
        _do(run, SCENARIO[:7])
        for name in ("first", "second", "third"):
            platform.assign(name)
            platform.wait_for_lease("thrice", name)
        with platform.worker(**SLOW):
            _do(run, SCENARIO[7:])
    assert _digests(platform, run) == _digests(platform, whole)
    assert [replay.identical for replay in _replays(platform, run)] == [True]


@pytest.mark.parametrize("shape", ["full", "dora"])
def test_other_ways_of_training_are_done_again_as_they_were(shape: str, platform: TinyPlatform) -> None:
    lora = None if shape == "full" else replace(LORA, use_dora=True)
    with platform.worker(**SLOW):
        whole = platform.create_run("whole", lora=lora, batch_retention=SEALED)
        _do(whole, SCENARIO)
        run = platform.create_run("cut", lora=lora, batch_retention=SEALED)
        _do(run, SCENARIO[:6])
        with platform.worker(**SLOW):
            _do(run, SCENARIO[6:])
    assert _digests(platform, run) == _digests(platform, whole)
    assert _lost(platform, run) == []


def test_a_replay_by_another_plan_says_where_it_differs(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("moved", batch_retention=SEALED)
        run.train(seed=1, steps=3)
        with platform.worker(**SLOW, compute=Compute(attention="eager")):
            (again,) = run.train(seed=2, steps=1)
    (replay,) = _replays(platform, run)
    assert (replay.identical, replay.steps) == (False, 3)
    assert replay.differing_step in (1, 2, 3)
    assert replay.plan is not None
    assert "attention eager" in replay.plan.kernels
    assert replay.adapter_digest != _digests(platform, run)[2]
    assert again.step == 4
    assert _lost(platform, run) == []


def test_a_run_that_is_closed_meanwhile_is_computed_again_to_its_end(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("closed", batch_retention=SEALED)
        steps = run.train(seed=1, steps=8)
        with platform.worker(**SLOW) as second:
            platform.wait_for_lease("closed", second)
            platform.ask(c.CloseRun("closed"), "closed").raise_for_outcome()
            saved = platform.wait_for("closed", lambda event: isinstance(event, e.CheckpointSaved | e.RunRolledBack))
    assert isinstance(saved, e.CheckpointSaved)
    assert saved.adapter_digest == steps[-1].adapter_digest
    assert [replay.identical for replay in _replays(platform, run)] == [True]


def test_after_a_difference_a_checkpoint_is_what_the_next_replay_is_held_to(platform: TinyPlatform) -> None:
    other = {**SLOW, "compute": Compute(attention="eager")}
    with platform.worker(**SLOW):
        run = platform.create_run("moved", batch_retention=SEALED)
        run.train(seed=1, steps=2)
        with platform.worker(**other) as second:
            platform.wait_for_lease("moved", second)
            saved = run.outcome(run.save_state("there"))
            run.outcome(run.forward_backward(BATCHES[0]))
            with platform.worker(**other) as third:
                platform.wait_for_lease("moved", third)
                assert isinstance(run.outcome(run.optim_step()), e.StepApplied)
    assert [replay.identical for replay in _replays(platform, run)] == [False, True]
    assert _replays(platform, run)[1].adapter_digest == saved.adapter_digest
    assert _lost(platform, run) == []


def test_without_its_inputs_a_run_is_rolled_back_and_says_why(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("poor", batch_retention=SEALED)
        saved = run.outcome(run.save_state("start"))
        run.train(seed=1, steps=2)
        for interval in platform.inputs.intervals(TENANT, "poor"):
            platform.inputs.destroy(TENANT, "poor", interval)
        with platform.worker(**SLOW):
            lost = platform.wait_for("poor", lambda event: isinstance(event, e.RunRolledBack))
            assert (lost.cause_code, lost.last_durable_step, lost.artifact_id) == ("batch_lost", 0, saved.artifact_id)
            steps = run.train(seed=5, steps=2)
            whole = platform.create_run("whole", batch_retention=SEALED)
            whole.outcome(whole.save_state("start"))
            assert [step.step for step in steps] == [step.step for step in whole.train(seed=5, steps=2)]
    assert _replays(platform, run) == []


def test_a_checkpoint_that_is_gone_ends_a_replay(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("gone", batch_retention=SEALED)
        saved = run.outcome(run.save_state("start"))
        run.train(seed=1, steps=1)
        for path in platform.installation.blobs_dir.rglob("*"):
            if saved.artifact_id.hex() in str(path) and path.is_file():
                path.unlink()
        with platform.worker(**SLOW):
            lost = platform.wait_for("gone", lambda event: isinstance(event, e.RunRolledBack))
    assert lost.cause_code is not None


def test_a_replay_that_fails_for_a_reason_that_passes_is_begun_again(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("patient", batch_retention=SEALED)
        steps = run.train(seed=1, steps=2)
        files = model_dir(platform.installation, platform.model.manifest_digest)
        away = files.rename(files.with_name("away"))
        with capture_logs() as logged, platform.worker(**SLOW):
            pause = threading.Event()
            while not any(entry["event"] == "replay_failed" for entry in logged):
                pause.wait(0.05)
            away.rename(files)
            saved = run.outcome(run.save_state("after"))
    assert saved.adapter_digest == steps[-1].adapter_digest
    assert [replay.identical for replay in _replays(platform, run)] == [True]


@pytest.mark.parametrize(("code", "tries"), [("out_of_memory", 3), ("batch_lost", 0), ("checkpoint_damaged", 0)])
def test_only_what_may_pass_is_tried_again_and_not_for_ever(code: str, tries: int) -> None:
    replay: Replay | None = Replay([Change(e.OptimStepSubmitted("a", bytes(16), 1, None), bytes(32))])
    dues = []
    while replay := replay.later(code, now=100.0):
        dues.append(replay.due)
    assert dues == [101.0, 105.0, 125.0][:tries]


def test_an_evaluation_leaves_the_run_as_it_is_and_its_result_for_the_client(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        for retention in (SEALED, "memory"):
            run = platform.create_run(retention, batch_retention=retention)
            (first,) = run.train(seed=1, steps=1)
            asked = run.forward(BATCHES[0])
            done = run.outcome(asked)
            assert isinstance(done, e.ForwardCompleted)
            assert (done.step, done.tokens) == (1, sum(map(len, BATCHES[0])))
            logprobs = run.result(asked)["logprobs"]
            assert [row[0] for row in logprobs] == [None, None]
            saved = run.outcome(run.save_state("after"))
            assert saved.adapter_digest == first.adapter_digest


def test_a_step_after_a_failed_batch_is_not_taken_with_too_few(platform: TinyPlatform) -> None:
    run = platform.create_run("exact", gradient_accumulation_steps=2, batch_retention=SEALED)
    wrong = run.forward_backward([[1, 100_000]])
    good, step = run.forward_backward(BATCHES[0]), run.optim_step()
    with platform.worker(**SLOW):
        assert run.outcome(wrong).code == "token_out_of_vocabulary"
        assert isinstance(run.outcome(good), e.ForwardBackwardCompleted)
        assert run.outcome(step).code == "accumulation_incomplete"
        done = _do(run, [lambda r: r.forward_backward(BATCHES[1]), lambda r: r.optim_step()])
    assert done[1].step == 1
