"""What retention destroys, when, and what it says of it; and what becomes of a crash at any of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from processors.blobs.port import BlobError
from processors.retention.processor import ORPHAN_SECONDS, SWEEP_SECONDS
from schemas import commands as c
from tests.deciders.examples import make
from tests.retention.desk import Desk
from tests.retention.ledger import RUN, TENANT, Crash, deletions, destructions


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path)
    desk.ledger.create()
    return desk


def finish(desk: Desk) -> None:
    while desk.ledger.finish():
        pass


def covered_interval(desk: Desk) -> bytes:
    """An interval with two inputs, a durable state after them, and an input in the next one; the state's checkpoint."""
    desk.submit()
    desk.submit()
    desk.ledger.step()
    finish(desk)
    saved = desk.ledger.save()
    assert saved is not None
    desk.submit()
    return saved


def test_an_interval_goes_once_a_durable_state_covers_it_and_the_ledger_says_so(desk: Desk) -> None:
    operation = desk.submit()
    desk.ledger.step()
    finish(desk)
    desk.work()
    assert desk.inputs.get(TENANT, RUN, 0, operation) == operation
    desk.ledger.save()
    desk.work()
    assert (desk.keys(), destructions(desk.ledger)) == (set(), [0])


def test_an_interval_stays_as_long_as_the_durable_state_stands_before_one_of_its_inputs(desk: Desk) -> None:
    desk.submit()
    desk.ledger.step()
    finish(desk)
    late = desk.submit()
    desk.ledger.save()
    desk.work()
    assert desk.inputs.get(TENANT, RUN, 0, late) == late
    assert destructions(desk.ledger) == []


def test_the_interval_of_now_is_never_taken(desk: Desk) -> None:
    covered_interval(desk)
    desk.work()
    assert (desk.keys(), destructions(desk.ledger)) == ({2 + 1}, [0])


def test_a_closed_run_with_nothing_left_to_do_keeps_nothing(desk: Desk) -> None:
    desk.submit()
    desk.ledger.ask(make(c.CloseRun))
    desk.work()
    assert desk.keys() == {0}
    finish(desk)
    desk.put()
    desk.work()
    assert (desk.keys(), destructions(desk.ledger)) == (set(), [0])


@pytest.mark.parametrize("restarted", [False, True])
def test_a_report_that_nobody_decided_in_time_is_sent_again(desk: Desk, *, restarted: bool) -> None:
    desk.submit()
    desk.ledger.ask(make(c.CloseRun))
    finish(desk)
    desk.read()
    (report,) = desk.retention.caught_up()
    desk.ledger.expire(report)
    if restarted:
        desk.restart()
    desk.work()
    assert (desk.keys(), destructions(desk.ledger)) == (set(), [0])


def test_an_asked_deletion_takes_the_wrapped_key_first_and_is_then_recorded(desk: Desk) -> None:
    old, new = desk.store(desk.ledger.durable()), desk.store(desk.ledger.durable())
    assert isinstance(desk.ledger.ask(make(c.DeleteArtifact, artifact_id=old)), bytes)
    manifest = desk.blobs.root / TENANT / old.hex() / "manifest.json"
    with manifest.open("rb") as still_open:
        desk.work()
        assert set(still_open.read()) == {0}
    assert (desk.artifacts(), deletions(desk.ledger)) == ({new.hex()}, [old])


def test_a_checkpoint_that_another_run_rests_on_waits_for_it(desk: Desk) -> None:
    old, _ = desk.store(desk.ledger.durable()), desk.store(desk.ledger.durable())
    desk.ledger.create("other", trainable=False, start=make_start(old))
    desk.ledger.ask(make(c.DeleteArtifact, artifact_id=old))
    desk.work()
    assert old.hex() in desk.artifacts()
    desk.ledger.ask(make(c.CloseRun, run_id="other"))
    desk.seconds += SWEEP_SECONDS
    desk.work()
    assert (old.hex() in desk.artifacts(), deletions(desk.ledger)) == (False, [old])


def export_of(desk: Desk, artifact: bytes) -> bytes:
    """Ask for an export and write its files; its id."""
    export_id = b"export" + artifact[-10:]
    desk.exports.write(TENANT, export_id, [("adapter.safetensors", [b"weights"])])
    assert isinstance(desk.ledger.ask(make(c.ExportArtifact, artifact_id=artifact, export_id=export_id)), bytes)
    return export_id


def test_a_deleted_checkpoints_exports_go_with_it_and_no_others(desk: Desk) -> None:
    old, new = desk.store(desk.ledger.durable()), desk.store(desk.ledger.durable())
    exports = [export_of(desk, artifact) for artifact in (old, new)]
    for export_id in exports:
        assert isinstance(desk.ledger.ask(make(c.RecordArtifactExported, export_id=export_id)), bytes)
    desk.ledger.ask(make(c.DeleteArtifact, artifact_id=old))
    desk.restart()
    desk.work()
    assert [desk.exports.open(TENANT, export_id) is None for export_id in exports] == [True, False]
    assert deletions(desk.ledger) == [old]


@pytest.mark.parametrize("outcome", [c.RecordArtifactExported, c.FailArtifactExport])
def test_a_deletion_waits_for_an_export_that_is_being_made(desk: Desk, outcome: type[Any]) -> None:
    old, _ = desk.store(desk.ledger.durable()), desk.store(desk.ledger.durable())
    export_id = export_of(desk, old)
    desk.ledger.ask(make(c.DeleteArtifact, artifact_id=old))
    desk.work()
    assert (old.hex() in desk.artifacts(), deletions(desk.ledger)) == (True, [])
    assert isinstance(desk.ledger.ask(make(outcome, export_id=export_id)), bytes)
    desk.work()
    assert (desk.exports.open(TENANT, export_id), deletions(desk.ledger)) == (None, [old])


def make_start(artifact: bytes) -> object:
    from schemas.types import StartSpec  # noqa: PLC0415 -- here alone

    return StartSpec(artifact, bytes(32), 1)


def test_automatic_checkpoints_beyond_the_newest_few_go_and_the_ledger_says_so(desk: Desk) -> None:
    saved = [desk.store(desk.ledger.durable()) for _ in range(4)]
    desk.work()
    assert (desk.artifacts(), deletions(desk.ledger)) == ({each.hex() for each in saved[2:]}, saved[:2])


def test_an_automatic_checkpoint_that_was_loaded_or_packaged_stays(desk: Desk) -> None:
    loaded = desk.store(desk.ledger.durable())
    load = make(c.SubmitLoadState, artifact_id=loaded, include_optimizer=False, step=1)
    assert isinstance(desk.ledger.ask(load), bytes)
    state = desk.ledger.state()
    done = make(c.RecordCheckpointLoaded, artifact_id=loaded, step=1, operation_id=state.pending[0].operation_id)
    assert isinstance(desk.ledger.ask(done), bytes)
    later = [desk.store(desk.ledger.durable()) for _ in range(3)]
    desk.work()
    assert desk.artifacts() == {each.hex() for each in (loaded, *later[1:])}


CRASHES = [number / 2 for number in range(14)]


@pytest.mark.parametrize("left", CRASHES)
def test_a_crash_at_any_step_is_made_good_by_the_next_start(desk: Desk, left: float) -> None:
    superseded = desk.store(covered_interval(desk))
    old, *kept = [desk.store(desk.ledger.durable()) for _ in range(3)]
    desk.ledger.ask(make(c.DeleteArtifact, artifact_id=old))
    desk.blobs.left = left
    try:
        desk.work()
    except Crash:
        assert not {each.hex() for each in deletions(desk.ledger)} & desk.artifacts()
    desk.restart()
    desk.work()
    assert (desk.artifacts(), sorted(deletions(desk.ledger))) == (
        {each.hex() for each in kept},
        sorted([old, superseded]),
    )
    assert sorted(destructions(desk.ledger)) == sorted(set(destructions(desk.ledger)))
    assert not desk.keys() & set(destructions(desk.ledger))


def test_what_was_reported_before_is_not_reported_again_after_a_restart(desk: Desk) -> None:
    covered_interval(desk)
    desk.work()
    size = len(desk.ledger.records)
    desk.restart()
    desk.work()
    assert len(desk.ledger.records) == size


def test_what_cannot_be_destroyed_now_is_tried_again_and_not_reported_before(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered_interval(desk)

    def refuse(_name: str) -> None:
        raise BlobError("A blob could not be written (EIO).")

    with monkeypatch.context() as patched:
        patched.setattr(desk.blobs, "destroy", refuse)
        desk.work()
    assert destructions(desk.ledger) == []
    desk.seconds += SWEEP_SECONDS
    desk.work()
    assert destructions(desk.ledger) == [0]


def test_an_input_that_the_ledger_never_heard_of_goes_when_its_command_can_no_longer_come(desk: Desk) -> None:
    accepted, orphan = desk.submit(), desk.put()
    desk.work()
    desk.seconds += ORPHAN_SECONDS
    desk.work()
    assert desk.inputs.get(TENANT, RUN, 0, orphan) == orphan
    desk.seconds += SWEEP_SECONDS
    desk.work()
    assert (desk.inputs.get(TENANT, RUN, 0, orphan), desk.inputs.get(TENANT, RUN, 0, accepted)) == (None, accepted)


def test_what_another_tenant_keeps_is_none_of_its_business(desk: Desk) -> None:
    """Not even what its own ledger says would be over, or was never heard of: another worker may know better."""
    desk.inputs.put("globex", RUN, 0, bytes(16), b"theirs")
    desk.results.put("globex", bytes(16), bytes(32), b"theirs")
    (result,) = desk.blobs.list("globex/results/")
    covered_interval(desk)
    for _ in range(2):
        desk.work()
        desk.seconds += ORPHAN_SECONDS + SWEEP_SECONDS
        desk.now += 61_000_000
    assert desk.inputs.get("globex", RUN, 0, bytes(16)) == b"theirs"
    assert desk.blobs.exists(result)


def test_a_key_that_was_made_for_an_interval_of_the_past_is_swept(desk: Desk) -> None:
    covered_interval(desk)
    desk.work()
    desk.inputs.put(TENANT, RUN, 0, bytes(16), b"too late")
    desk.restart()
    desk.work()
    assert (desk.keys(), destructions(desk.ledger)) == ({3}, [0])


def test_an_input_that_is_read_for_the_last_time_does_not_wait_for_its_interval(desk: Desk) -> None:
    operation_id = desk.put()
    sample = make(c.SubmitSample, interval=0)
    assert desk.ledger.ask(sample, operation_id) == operation_id
    batch = desk.submit()
    desk.work()
    assert desk.inputs.get(TENANT, RUN, 0, operation_id) == operation_id
    finish(desk)
    desk.seconds += SWEEP_SECONDS
    desk.work()
    assert (desk.inputs.get(TENANT, RUN, 0, operation_id), desk.inputs.get(TENANT, RUN, 0, batch)) == (None, batch)


def test_results_go_when_their_time_is_over(desk: Desk) -> None:
    desk.results.put(TENANT, bytes(16), bytes(32), b"text")
    desk.work()
    assert desk.results.get(TENANT, bytes(16), bytes(32)) == b"text"
    desk.now += 61_000_000
    desk.seconds += SWEEP_SECONDS
    desk.work()
    assert list(desk.blobs.list()) == []
