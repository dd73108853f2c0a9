from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tensorguard.commitment import canonical, commit

from schemas import commands as c
from schemas import events as e
from tests.support.tiny_model import VOCABULARY
from tests.support.tiny_platform import LORA, TENANT, TinyPlatform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.tiny_platform import TinyRun

ROWS = [[1, 2, 3, 4, 5], [9, 8, 7]]
SLOW = {"checkpoint_steps": 1000, "checkpoint_seconds": 1000.0}


@pytest.fixture
def platform(tmp_path: Path, model_dir: Path) -> Iterator[TinyPlatform]:
    with TinyPlatform(tmp_path / "data", model_dir) as platform:
        yield platform


def test_a_run_trains_samples_saves_and_loads(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("r1")
        forward, step = run.forward_backward(ROWS), run.optim_step()
        sampled = run.sample(["to be", "or"])
        saved = run.outcome(run.save_state("first"))
        moved = run.train(seed=1, steps=2)[-1]
        loaded = run.outcome(run.load_state(saved))
        completed = run.outcome(forward)
        applied = run.outcome(step)
    assert isinstance(completed, e.ForwardBackwardCompleted)
    assert completed.tokens == 8
    assert completed.grad_norm > 0
    assert (applied.step, applied.learning_rate) == (1, 5e-3)
    assert "torch" in applied.plan.build
    assert saved.adapter_digest == applied.adapter_digest == loaded.adapter_digest != moved.adapter_digest
    assert (moved.step, loaded.step, saved.through_op_seq) == (3, 1, 2)
    result = run.result(sampled)
    assert [s["prompt"] for s in result["samples"]] == ["to be", "or"]
    commitment = commit(bytes.fromhex(result["salt"]), canonical(result["samples"]))
    assert commitment == run.outcome(sampled).completions_commitment
    assert platform.hub.figures().input_bytes == 0


def test_resuming_from_a_checkpoint_equals_going_on(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        whole = platform.create_run("whole")
        wanted = [step.adapter_digest for step in (*whole.train(seed=3, steps=2), *whole.train(seed=4, steps=2))]
        run = platform.create_run("broken")
        assert [step.adapter_digest for step in run.train(seed=3, steps=2)] == wanted[:2]
    saved = platform.wait_for("broken", lambda event: isinstance(event, e.CheckpointSaved))
    assert (saved.step, saved.operation_id, saved.adapter_digest) == (2, None, wanted[1])
    with platform.worker(**SLOW) as second:
        assert platform.wait_for_lease("broken", second).resume_artifact == saved.artifact_id
        assert [step.adapter_digest for step in run.train(seed=4, steps=2)] == wanted[2:]
    assert not any(isinstance(event, e.RunRolledBack) for event in platform.events("broken"))


def _saved_at(platform: TinyPlatform, step: int) -> None:
    platform.wait_for("r1", lambda event: isinstance(event, e.CheckpointSaved) and event.step == step)


def test_automatic_checkpoints_come_every_few_steps(platform: TinyPlatform) -> None:
    with platform.worker(checkpoint_steps=1, checkpoint_seconds=1000.0):
        run = platform.create_run("r1")
        run.outcome(run.save_state("mine"))
        for seed in range(5):
            step = run.train(seed=seed, steps=1)[0].step
            _saved_at(platform, step)
        run.outcome(run.sample(["x"]))
    saved = [event for event in platform.events("r1") if isinstance(event, e.CheckpointSaved)]
    assert [event.step for event in saved] == [0, 1, 2, 3, 4, 5]


def test_a_pause_makes_the_last_steps_durable(platform: TinyPlatform) -> None:
    with platform.worker(checkpoint_steps=1000, checkpoint_seconds=0.2):
        run = platform.create_run("r1")
        step = run.train(seed=1, steps=1)[0]
        run.forward_backward(ROWS)
        saved = platform.wait_for("r1", lambda event: isinstance(event, e.CheckpointSaved))
    assert (saved.step, saved.through_op_seq, saved.adapter_digest) == (1, 2, step.adapter_digest)


def test_a_worker_that_dies_loses_what_was_not_durable_and_says_so(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("r1")
        saved = run.outcome(run.save_state("first"))
        lost = run.train(seed=1, steps=2)
        platform.assign("another-worker")
        lease = platform.wait_for_lease("r1", "another-worker")
        waiting = run.forward_backward(ROWS)
    rolled_back = platform.wait_for("r1", lambda event: isinstance(event, e.RunRolledBack))
    assert (lease.resume_artifact, lease.resume_step) == (saved.artifact_id, 0)
    assert (rolled_back.last_durable_step, rolled_back.lost_operations) == (0, 4)
    with platform.worker(**SLOW) as third:
        platform.wait_for_lease("r1", third)
        again = run.train(seed=1, steps=2)
    assert not platform.hub.has_input(waiting)
    assert [step.step for step in again] == [1, 2] == [step.step for step in lost]


def test_two_runs_in_turn_equal_two_runs_alone(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        one = platform.create_run("one").train(seed=1, steps=3)
        together = [platform.create_run("two"), platform.create_run("three", seed=9)]
        ids = []
        for step in range(3):
            for run in together:
                run.forward_backward([[1 + (31 + step * 7 + j * k) % 300 for k in range(6 + j)] for j in range(2)])
                ids.append((run, run.optim_step()))
        two = [run.outcome(operation_id) for run, operation_id in ids if run.run_id == "two"]
        other = [run.outcome(operation_id) for run, operation_id in ids if run.run_id == "three"]
    assert [step.adapter_digest for step in two] == [step.adapter_digest for step in one]
    assert not {step.adapter_digest for step in other} & {step.adapter_digest for step in one}


def test_cancelling_drops_an_operation_that_has_not_started(platform: TinyPlatform) -> None:
    run = platform.create_run("r1")
    first, second = run.forward_backward(ROWS), run.forward_backward(ROWS)
    platform.ask(c.RequestCancellation("r1", second), "r1").raise_for_outcome()
    with platform.worker(**SLOW):
        assert isinstance(run.outcome(first), e.ForwardBackwardCompleted)
        assert isinstance(run.outcome(second), e.OperationCancelled)


def _foreign_batch(run: TinyRun) -> bytes:
    return run.submit(c.SubmitForwardBackward(run.run_id, bytes(32), 1, 3, None), {"input_ids": [[1, 2, 3]]})


def _lost_batch(run: TinyRun) -> bytes:
    return run.submit(c.SubmitForwardBackward(run.run_id, bytes(32), 1, 3, None))


def _no_batch(run: TinyRun) -> bytes:
    commitment = commit(bytes(32), canonical({"input_ids": [[1]]}))
    return run.submit(c.SubmitForwardBackward(run.run_id, commitment, 1, 3, None), {"input_ids": [[1]]})


def _step_after_a_failure(run: TinyRun) -> bytes:
    run.forward_backward([[VOCABULARY]])
    return run.optim_step()


FAILING: dict[str, tuple[Callable[[TinyRun], bytes], str]] = {
    "a token out of vocabulary": (lambda run: run.forward_backward([[1, VOCABULARY]]), "token_out_of_vocabulary"),
    "too long a row": (lambda run: run.forward_backward([[1] * 200]), "sequence_too_long"),
    "too long a prompt": (lambda run: run.sample(["x " * 200]), "sequence_too_long"),
    "no target": (lambda run: run.forward_backward([[1]]), "non_finite_loss"),
    "a batch that is gone": (_lost_batch, "batch_lost"),
    "another batch than was committed to": (_foreign_batch, "batch_lost"),
    "a batch without labels": (_no_batch, "internal_error"),
    "a step without gradient": (_step_after_a_failure, "empty_gradient"),
}


def test_a_failing_operation_has_a_code_and_hurts_no_other_run(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        other = platform.create_run("other")
        wanted = [step.adapter_digest for step in platform.create_run("alone").train(seed=1, steps=len(FAILING))]
        found = []
        for number, (submit, code) in enumerate(FAILING.values()):
            run = platform.create_run(f"bad-{number}")
            failed = run.outcome(submit(run))
            assert isinstance(failed, e.OperationFailed)
            assert failed.code == code
            assert isinstance(run.outcome(run.forward_backward(ROWS)), e.ForwardBackwardCompleted)
        found = [step.adapter_digest for step in other.train(seed=1, steps=len(FAILING))]
    assert found == wanted


def test_a_changed_model_file_fails_its_operations(platform: TinyPlatform) -> None:
    weights = platform.installation.data_dir / "models" / platform.model.manifest_digest.hex() / "model.safetensors"
    sound = weights.read_bytes()
    weights.chmod(0o600)
    weights.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with platform.worker(**SLOW):
        run = platform.create_run("r1")
        assert run.outcome(run.forward_backward(ROWS)).code == "model_changed"
        weights.write_bytes(sound)
        assert isinstance(run.outcome(run.forward_backward(ROWS)), e.ForwardBackwardCompleted)


def _flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a flipped bit in the payload": ("payload.enc", _flip, "checkpoint_damaged"),
    "a flipped bit in the manifest": ("manifest.json", _flip, "checkpoint_damaged"),
    "a flipped bit in the signature": ("manifest.sig", _flip, "checkpoint_damaged"),
    "a truncated payload": ("payload.enc", _truncate, "checkpoint_truncated"),
    "a truncated manifest": ("manifest.json", _truncate, "checkpoint_truncated"),
    "a truncated signature": ("manifest.sig", _truncate, "checkpoint_truncated"),
    "no payload": ("payload.enc", lambda path: path.unlink(), "checkpoint_damaged"),
}


def test_a_checkpoint_that_does_not_fit_or_open_has_its_own_code(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("r1")
        run.train(seed=1, steps=1)
        saved = run.outcome(run.save_state("whole"))
        bare = run.outcome(run.save_state("bare", include_optimizer=False))
        before = run.train(seed=2, steps=1)[0].adapter_digest
        assert run.outcome(run.load_state(bare)).code == "checkpoint_mismatch"
        narrow = LORA.__class__(LORA.rank + 1, LORA.alpha, LORA.dropout, LORA.target_modules, LORA.bias)
        other = platform.create_run("narrow", lora=narrow)
        assert other.outcome(other.load_state(saved)).code == "checkpoint_mismatch"
        folder = platform.installation.data_dir / "blobs" / TENANT / saved.artifact_id.hex()
        for name, damage, code in DAMAGED.values():
            sound = (folder / name).read_bytes()
            damage(folder / name)
            assert run.outcome(run.load_state(saved)).code == code
            (folder / name).write_bytes(sound)
        unchanged = run.outcome(run.save_state("unchanged"))
        assert unchanged.adapter_digest == before
        assert run.outcome(run.load_state(bare, include_optimizer=False)).adapter_digest == saved.adapter_digest


def test_a_run_whose_newest_state_is_damaged_can_load_an_older_one(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("r1")
        run.train(seed=1, steps=1)
        older, newest = run.outcome(run.save_state("older")), run.outcome(run.save_state("newest"))
    _flip(platform.installation.data_dir / "blobs" / TENANT / newest.artifact_id.hex() / "payload.enc")
    with platform.worker(**SLOW) as second:
        assert platform.wait_for_lease("r1", second).resume_artifact == newest.artifact_id
        assert run.outcome(run.forward_backward(ROWS)).code == "checkpoint_damaged"
        assert run.outcome(run.load_state(older)).adapter_digest == older.adapter_digest
        assert run.train(seed=2, steps=1)[0].step == 2


def test_a_worker_whose_key_is_revoked_goes_on_with_other_tenants(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW) as worker:
        run = platform.create_run("r1")
        run.outcome(run.forward_backward(ROWS))
        platform.revoke("worker")
        run.optim_step()
        platform.submitter.ensure_chain("rival")
        other = platform.create_run("r1", chain="rival")
        platform.wait_for_lease("r1", worker, chain="rival")
        assert isinstance(other.outcome(other.forward_backward(ROWS)), e.ForwardBackwardCompleted)
    assert not any(isinstance(event, e.StepApplied) for event in platform.events("r1"))


def test_another_tenants_key_does_not_open_a_checkpoint(platform: TinyPlatform) -> None:
    with platform.worker(**SLOW):
        run = platform.create_run("r1")
        saved = run.outcome(run.save_state("whole"))
        deks = platform.installation.keys_dir / "deks"
        platform.submitter.ensure_chain("rival")
        from processors.keys.file import FileKeyProvider  # noqa: PLC0415

        keys = FileKeyProvider(platform.installation.keys_dir)
        keys.tenant_dek("rival")
        (deks / f"{TENANT}.wrapped").unlink()
        keys.tenant_dek(TENANT)
        assert run.outcome(run.load_state(saved)).code == "checkpoint_wrong_key"


def test_a_closed_run_finishes_what_it_had_taken(platform: TinyPlatform) -> None:
    run = platform.create_run("r1")
    forward, step = run.forward_backward(ROWS), run.optim_step()
    platform.ask(c.CloseRun("r1"), "r1").raise_for_outcome()
    with platform.worker(**SLOW):
        assert isinstance(run.outcome(forward), e.ForwardBackwardCompleted)
        applied = run.outcome(step)
        saved = platform.wait_for("r1", lambda event: isinstance(event, e.CheckpointSaved))
    assert saved.adapter_digest == applied.adapter_digest


def test_no_private_text_is_in_the_data_dir(platform: TinyPlatform) -> None:
    canary = "xylophone quartz canary"
    with platform.worker(**SLOW):
        run = platform.create_run("r1")
        run.outcome(run.sample([canary]))
        run.outcome(run.save_state("first"))
    for path in platform.installation.data_dir.rglob("*"):
        if path.is_file():
            with closing(path.open("rb")) as file:
                assert canary.encode() not in file.read()
