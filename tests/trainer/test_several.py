"""Several trainers of one installation: one that stands still loses its run to another, and comes back to nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from processors.placement.standing import worker_id
from producers.feed import Feed
from schemas import events as e
from tests.support.tiny_platform import PATIENCE, TENANT, TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.tiny_platform import TinyRun

OUTCOMES = e.ForwardBackwardCompleted | e.StepApplied | e.SampleCompleted | e.CheckpointSaved
LOST = e.RunRolledBack | e.OperationFailed | e.OperationCancelled
ROWS = [[[1 + (i * 7 + j * k) % 300 for k in range(6 + j)] for j in range(2)] for i in range(6)]
SOON = {"TG_CHECKPOINT_EVERY_STEPS": "1", "TG_CHECKPOINT_EVERY_SECONDS": "1000", "TG_DEVICE": "cpu"}
LEASE_SECONDS = 8.0
START_SECONDS = 240.0
Trainers = dict[str, subprocess.Popen[bytes]]


@pytest.fixture
def platform(tmp_path: Path, model_dir: Path) -> Iterator[TinyPlatform]:
    with TinyPlatform(tmp_path / "data", model_dir, lease_seconds=LEASE_SECONDS) as platform:
        yield platform


@contextmanager
def trainers(platform: TinyPlatform, count: int) -> Iterator[Trainers]:
    """Trainers as a server starts them; they alone say that they are there."""
    workers = [worker_id(platform.installation.producer("worker")) for _ in range(count)]
    command = [sys.executable, "-m", "processors.trainer", "--data-dir", str(platform.installation.data_dir)]
    environment = {**os.environ, **SOON}
    started = {each: subprocess.Popen([*command, "--worker-id", each], env=environment) for each in workers}
    try:
        assert all(platform.hub.wait_ready(worker, START_SECONDS) for worker in workers)
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.wait(PATIENCE)


def holder(platform: TinyPlatform, run: TinyRun, epoch: int = 1) -> str:
    lease = platform.wait_for(
        run.run_id, lambda event: isinstance(event, e.RunLeaseGranted) and event.lease_epoch == epoch
    )
    return str(lease.worker)


def step(run: TinyRun, number: int) -> bytes:
    run.forward_backward(ROWS[number])
    return run.optim_step()


def begins_to_stream(platform: TinyPlatform, run: TinyRun) -> bytes:
    """A long sample of which the first words have come."""
    operation_id = run.sample(["to be"], 480)
    with platform.hub.stream_reader(operation_id) as reader:
        assert reader.read(PATIENCE)
    return operation_id


def heard(platform: TinyPlatform, condition: Callable[[], bool]) -> bool:
    """Whether something comes true while trainers are heard."""
    for _ in range(int(PATIENCE * 10)):
        if condition():
            return True
        platform.roster.wait(0.1)
    return False


def runs_of(platform: TinyPlatform, worker: str) -> list[int]:
    return [standing.runs for standing in platform.roster.standings() if standing.worker == worker]


def outcomes(platform: TinyPlatform, run: TinyRun) -> dict[bytes, int]:
    counted: dict[bytes, int] = {}
    for event in platform.events(run.run_id):
        if isinstance(event, OUTCOMES) and event.operation_id is not None:
            counted[event.operation_id] = counted.get(event.operation_id, 0) + 1
    return counted


def of_kind(platform: TinyPlatform, run: TinyRun, kind: Any) -> list[Any]:
    return [event for event in platform.events(run.run_id) if isinstance(event, kind)]


def digests(platform: TinyPlatform, run: TinyRun) -> list[bytes]:
    return [event.adapter_digest for event in of_kind(platform, run, e.StepApplied)]


def stored(platform: TinyPlatform) -> set[str]:
    found = (platform.installation.data_dir / "blobs" / TENANT).glob("*/manifest.json")
    return {path.parent.name for path in found}


def recorded(platform: TinyPlatform) -> set[str]:
    events = (record.event for record in Feed(platform.engine, chains=TENANT.__eq__).poll(100_000))
    return {event.artifact_id.hex() for event in events if isinstance(event, e.CheckpointSaved)}


def test_the_run_of_a_trainer_that_stands_still_goes_on_elsewhere_and_nothing_is_doubled_or_lost(
    platform: TinyPlatform,
) -> None:
    with trainers(platform, 2) as started:
        whole, moved = [platform.create_run(name, batch_retention="sealed") for name in ("whole", "moved")]
        first, other = holder(platform, moved), holder(platform, whole)
        assert {first, other} == set(started)
        for run in (whole, moved):
            for number in range(3):
                run.outcome(step(run, number))
        whole.outcome(whole.sample(["to be"], 3))
        sample = begins_to_stream(platform, moved)
        started[first].send_signal(signal.SIGSTOP)
        waiting = [step(moved, number) for number in (3, 4)]
        assert holder(platform, moved, epoch=2) == other
        for operation_id in (sample, *waiting):
            assert isinstance(moved.outcome(operation_id), OUTCOMES)
        started[first].send_signal(signal.SIGCONT)
        assert heard(platform, lambda: runs_of(platform, first) == [0])
        for run, numbers in ((whole, (3, 4, 5)), (moved, (5,))):
            for number in numbers:
                run.outcome(step(run, number))
        assert heard(platform, lambda: stored(platform) == recorded(platform))
        latecomer = platform.create_run("late", batch_retention="sealed")
        assert holder(platform, latecomer) == first
        latecomer.outcome(step(latecomer, 0))
    assert digests(platform, moved) == digests(platform, whole)
    assert [replay.identical for replay in of_kind(platform, moved, e.RunReplayed)] in ([], [True])
    assert of_kind(platform, moved, LOST) == []
    assert set(outcomes(platform, moved).values()) == {1}
    assert {refused.code for refused in of_kind(platform, moved, e.CommandRejected)} <= {"stale_lease"}
    assert len(moved.result(sample)["samples"]) == 1
