from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from processors.placement.standing import worker_id
from schemas import events as e
from tests.support.tiny_platform import PATIENCE, TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def platform(tmp_path: Path, model_dir: Path) -> Iterator[TinyPlatform]:
    with TinyPlatform(tmp_path / "data", model_dir) as platform:
        yield platform


@contextmanager
def trainer(platform: TinyPlatform) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A trainer as a server starts it."""
    worker = worker_id(platform.installation.producer("worker"))
    arguments = ["--data-dir", str(platform.installation.data_dir), "--worker-id", worker]
    with subprocess.Popen([sys.executable, "-m", "processors.trainer", *arguments]) as process:
        platform.assign(worker)
        try:
            assert platform.hub.wait_ready(worker, PATIENCE)
            yield process, worker
        finally:
            process.kill()


def test_two_processes_give_the_same_digests_and_one_that_is_asked_to_end_loses_nothing(
    platform: TinyPlatform,
) -> None:
    with platform.worker():
        here = [step.adapter_digest for step in platform.create_run("here").train(seed=1, steps=3)]
    with trainer(platform) as (process, _):
        there = [step.adapter_digest for step in platform.create_run("there").train(seed=1, steps=3)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert there == here
    saved = platform.wait_for("there", lambda event: isinstance(event, e.CheckpointSaved))
    assert (saved.step, saved.adapter_digest) == (3, there[-1])


def test_a_trainer_ends_when_the_hub_is_gone(platform: TinyPlatform) -> None:
    with trainer(platform) as (process, _):
        platform.stop_listening()
        assert process.wait(PATIENCE) == 0


def test_a_killed_trainer_leaves_the_last_durable_step(platform: TinyPlatform) -> None:
    with trainer(platform) as (process, _):
        run = platform.create_run("r1")
        run.train(seed=1, steps=1)
        saved = run.outcome(run.save_state("first"))
        run.train(seed=2, steps=1)
        process.kill()
    with platform.worker() as worker:
        lease = platform.wait_for_lease("r1", worker)
        assert (lease.resume_artifact, lease.resume_step) == (saved.artifact_id, 1)
        again = run.outcome(run.save_state("second"))
    assert again.adapter_digest == saved.adapter_digest
    lost = platform.wait_for("r1", lambda event: isinstance(event, e.RunRolledBack))
    assert (lost.last_durable_step, lost.lost_operations) == (1, 2)
