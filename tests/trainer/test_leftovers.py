"""What a worker makes of what others left, and of its own mistakes."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from processors.exchange.trainer import TrainerClient
from processors.trainer.checkpoints import Checkpoints
from processors.trainer.settings import Settings
from processors.trainer.worker import Worker
from producers.clock import DAY, system_clock
from producers.installation import Installation
from schemas import events as e
from tests.support.tiny_platform import PATIENCE, TENANT, TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Iterator


ROWS = [[1, 2, 3, 4, 5], [9, 8, 7]]
SLOW = {"checkpoint_steps": 1000, "checkpoint_seconds": 1000.0}


@pytest.fixture
def platform(tmp_path: Path, model_dir: Path) -> Iterator[TinyPlatform]:
    with TinyPlatform(tmp_path / "data", model_dir) as platform:
        yield platform


def _blobs(platform: TinyPlatform) -> Path:
    return platform.installation.data_dir / "blobs" / TENANT


def _copied(platform: TinyPlatform, saved: e.CheckpointSaved, name: str, *, whole: bool) -> Path:
    """A checkpoint that a killed worker stored and could not report, or not even finish."""
    source, target = _blobs(platform) / saved.artifact_id.hex(), _blobs(platform) / name
    target.mkdir()
    for path in source.iterdir():
        if whole or path.name != "manifest.json":
            (target / path.name).write_bytes(path.read_bytes())
    return target


def test_what_killed_workers_stored_and_nobody_recorded_is_removed(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run, elsewhere = platform.create_run("r1"), platform.create_run("r2")
        saved = run.outcome(run.save_state("mine"))
        kept = elsewhere.outcome(elsewhere.save_state("its"))
    orphan = _copied(platform, saved, "ab" * 16, whole=True)
    wrapped_key = platform.installation.data_dir / "manifest-as-it-lies-on-the-disk"
    wrapped_key.hardlink_to(orphan / "manifest.json")
    unfinished = _copied(platform, saved, "cd" * 16, whole=False)
    begun = _blobs(platform) / ("01" * 16)
    begun.mkdir()
    (begun / ".part-0011223344556677").write_bytes(b"ciphertext")
    with platform.worker(**SLOW) as second:
        platform.wait_for_lease("r1", second)
        assert run.outcome(run.load_state(saved)).adapter_digest == saved.adapter_digest
        assert elsewhere.outcome(elsewhere.load_state(kept)).adapter_digest == kept.adapter_digest
    assert not orphan.exists()
    assert set(wrapped_key.read_bytes()) == {0}
    assert not unfinished.exists()
    assert not begun.exists()


def test_a_state_that_was_loaded_without_its_optimizer_becomes_durable(platform: TinyPlatform) -> None:
    with platform.worker(checkpoint_steps=1000, checkpoint_seconds=0.2):
        run = platform.create_run("r1")
        saved = run.outcome(run.save_state("bare", include_optimizer=False))
        load = run.load_state(saved, include_optimizer=False)
        run.outcome(load)
        own = platform.wait_for("r1", lambda event: isinstance(event, e.CheckpointSaved) and event.operation_id is None)
    assert (own.through_op_seq, own.adapter_digest) == (2, saved.adapter_digest)


def _yesterday() -> int:
    return system_clock() - DAY


def test_a_worker_whose_outcomes_come_too_late_ends_and_its_run_goes_on_with_the_next(platform: TinyPlatform) -> None:
    late = Installation.open(platform.installation.data_dir)
    late.clock = _yesterday
    client = TrainerClient(late.data_dir, "late")
    worker = Worker(late, client, "late", threading.Event(), Settings(**SLOW))  # type: ignore[arg-type]  # ints and floats
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    platform.assign("late")
    run = platform.create_run("r1")
    platform.wait_for_lease("r1", "late")
    run.forward_backward(ROWS)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    client.close()
    late.close()
    with platform.worker(**SLOW) as second:
        platform.wait_for_lease("r1", second)
        assert run.train(seed=1, steps=1)[0].step == 1


def test_a_checkpoint_without_room_loses_no_step_and_is_tried_again(
    platform: TinyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    full.set()
    fsync = os.fsync

    def no_room(fd: int) -> None:
        if full.is_set() and ".part-" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", no_room)
    with platform.worker(checkpoint_steps=1, checkpoint_seconds=1000.0):
        run = platform.create_run("r1")
        assert run.train(seed=1, steps=1)[0].step == 1
        assert run.outcome(run.save_state("mine")).code == "storage_full"
        assert not [*_blobs(platform).rglob("payload.enc"), *_blobs(platform).rglob("manifest.json")]
        full.clear()
        step = run.train(seed=2, steps=1)[0]
        own = platform.wait_for("r1", lambda event: isinstance(event, e.CheckpointSaved))
    assert (step.step, own.step, own.adapter_digest) == (2, 2, step.adapter_digest)


def test_what_lies_in_a_store_is_listed_by_run(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("r1")
        saved = run.outcome(run.save_state("mine"))
    damaged = _copied(platform, saved, "ef" * 16, whole=True)
    (damaged / "manifest.json").write_bytes(b"{}")
    (_blobs(platform) / "stranger").mkdir()
    (_blobs(platform) / "stranger" / "file").write_bytes(b"x")
    unfinished = _copied(platform, saved, "cd" * 16, whole=False)
    checkpoints = Checkpoints.of(platform.installation)
    listed = checkpoints.stored()
    assert listed == ({(TENANT, "r1"): [saved.artifact_id]}, [(TENANT, bytes.fromhex("cd" * 16))])
    (unfinished / "manifest.json").write_bytes(b"{}")  # its writer finished it after that
    checkpoints.remove_unfinished(listed[1])
    assert unfinished.exists()
    assert damaged.exists()
    assert (_blobs(platform) / "stranger" / "file").exists()
