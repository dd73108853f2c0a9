from __future__ import annotations

import pytest
from tg_tinker.types import TrainingClientInfo

from schemas import commands as c
from tests.support.doors import PLAN, TENANT, Doors, batch


def test_a_created_training_client_reads_back_with_its_config_and_model(doors: Doors) -> None:
    run = doors.create(metadata={"owner": "ada"}, seed=7, optimizer={"learning_rate": 0.002})
    info = doors.get(f"/v1/training_clients/{run}")
    assert info["tenant"] == TENANT
    assert info["status"] == "open"
    assert (info["step"], info["generation"], info["last_durable_step"]) == (0, 0, 0)
    assert info["config"]["metadata"] == {"owner": "ada"}
    assert info["config"]["optimizer"]["learning_rate"] == 0.002
    assert info["model"]["vocabulary_size"] == 100


def test_the_whole_loop_of_operations_is_answered_by_futures(doors: Doors) -> None:
    run = doors.create()
    forward = doors.forward_backward(run)
    step = doors.operate(run, "optim_step", {})
    assert [forward["op_seq"], step["op_seq"]] == [1, 2]
    assert doors.get(f"/v1/futures/{forward['future_id']}")["status"] == "pending"
    doors.worker.take(run)
    doors.worker.gradient(forward, loss=2.25)
    doors.worker.step(step, 1)
    done = doors.get(f"/v1/futures/{forward['future_id']}/result")
    assert done["status"] == "completed"
    assert done["result"] == {"loss": 2.25, "grad_norm": 1.0, "tokens_processed": 8, "dp_metrics": None}
    applied = doors.get(f"/v1/futures/{step['future_id']}/result")
    assert applied["result"] == {
        "step": 1,
        "learning_rate": 1e-4,
        "grad_norm": 0.0,
        "clipped": False,
        "dp_metrics": None,
    }
    assert doors.get(f"/v1/training_clients/{run}")["step"] == 1


@pytest.mark.parametrize("retention", ["sealed", "memory"])
def test_a_batch_is_kept_beside_the_ledger_under_the_salt_that_the_client_gets(doors: Doors, retention: str) -> None:
    run = doors.create(batch_retention=retention)
    future = doors.operate(run, "forward_backward", {"batch": batch(), "salt": "ab" * 32})
    assert future["commitment"]["salt"] == "ab" * 32
    operation = bytes.fromhex(future["future_id"])
    in_memory, sealed = doors.platform.exchange.input(operation), doors.platform.inputs.get("acme", run, 0, operation)
    assert (in_memory is None, sealed is None) == (retention == "sealed", retention == "memory")
    kept = in_memory or sealed
    assert kept is not None
    assert kept[:32] == bytes.fromhex("ab" * 32)


def test_a_run_tells_that_it_is_replaying_and_how_its_newest_replay_went(doors: Doors) -> None:
    run = doors.create(batch_retention="sealed")
    forward, step = doors.forward_backward(run), doors.operate(run, "optim_step", {})
    doors.worker.take(run)
    doors.worker.gradient(forward)
    doors.worker.step(step, 1)
    before = doors.get(f"/v1/training_clients/{run}")
    assert (before["replaying"], before["replays"], before["last_replay"]) == (False, 0, None)
    doors.worker.take(run)
    assert doors.get(f"/v1/training_clients/{run}")["replaying"]
    doors.worker.say(
        "worker", c.RecordReplay(run, 2, 2, 1, bytes([7] * 32), identical=False, differing_step=1, plan=PLAN)
    )
    info = doors.get(f"/v1/training_clients/{run}")
    assert TrainingClientInfo.model_validate(info).last_replay is not None
    replay = info["last_replay"]
    assert replay.pop("recorded_at") > info["created_at"]
    assert replay == {"steps": 1, "identical": False, "differing_step": 1}
    assert (info["replaying"], info["replays"], info["generation"]) == (False, 1, 0)
    assert info["config"]["batch_retention"] == "sealed"
