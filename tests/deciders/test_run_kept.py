"""What becomes of a run's checkpoints, as given, when, then: deleted, handed out, never from under the run."""

from __future__ import annotations

from typing import Any

import pytest

from producers.deciders.context import CODES, LIMITS, Limits, Rejected
from producers.deciders.run import RunState
from schemas import commands as c
from schemas import events as e
from tests.deciders.examples import decided, fold, make

OLD, NEW, FOREIGN = (bytes([n]) * 16 for n in (1, 2, 3))
CREATED, LEASED, CLOSED = make(e.RunCreated), make(e.RunLeaseGranted), make(e.RunClosed)


def op(number: int) -> dict[str, Any]:
    return {"operation_id": bytes([number]) * 16, "op_seq": number}


def automatic(artifact: bytes, through: int = 0) -> Any:
    return make(e.CheckpointSaved, operation_id=None, name=None, artifact_id=artifact, step=0, through_op_seq=through)


def named(artifact: bytes) -> Any:
    return make(e.CheckpointSaved, **op(1), artifact_id=artifact, step=0)


def load(artifact: bytes, **given: Any) -> Any:
    return make(e.LoadStateSubmitted, **op(2), artifact_id=artifact, **given)


DELETE, GONE = make(c.DeleteArtifact, artifact_id=OLD), make(c.RecordArtifactDeleted, artifact_id=OLD)
ASKED, DELETED = make(e.ArtifactDeletionRequested, artifact_id=OLD), make(e.ArtifactDeleted, artifact_id=OLD)
NAMED = (CREATED, LEASED, make(e.SaveStateSubmitted, **op(1)), named(OLD), automatic(NEW))
PLAIN = (CREATED, LEASED, automatic(OLD), automatic(NEW))
LOADED = make(e.CheckpointLoaded, **op(2), artifact_id=OLD, step=0)
WEIGHTS = load(OLD, include_optimizer=False)
EXPORT = make(c.ExportArtifact, artifact_id=OLD)
EXPORTING = make(e.ArtifactExportRequested, artifact_id=OLD)

ACCEPTED: dict[str, tuple[tuple[Any, ...], Any, Any]] = {
    "a named checkpoint's deletion is asked for": (NAMED, DELETE, ASKED),
    "an automatic one's too": (PLAIN, DELETE, ASKED),
    "the durable one's, of a closed run": ((CREATED, LEASED, automatic(OLD), CLOSED), DELETE, ASKED),
    "one's that was loaded, before a newer state": (
        (*PLAIN, WEIGHTS, LOADED, automatic(NEW, through=2)),
        DELETE,
        ASKED,
    ),
    "one's whose load failed": ((*PLAIN, load(OLD), make(e.OperationFailed, **op(2))), DELETE, ASKED),
    "a named checkpoint is gone": ((*NAMED, ASKED), GONE, DELETED),
    "a superseded automatic one is gone unasked": (PLAIN, GONE, DELETED),
    "a checkpoint is handed out": (NAMED, EXPORT, EXPORTING),
    "a closed run's too": ((*NAMED, CLOSED), EXPORT, EXPORTING),
    "an export exists": ((*NAMED, EXPORTING), make(c.RecordArtifactExported), make(e.ArtifactExported)),
    "an export failed": (
        (*NAMED, EXPORTING),
        make(c.FailArtifactExport, code="checkpoint_damaged"),
        make(e.ArtifactExportFailed, code="checkpoint_damaged"),
    ),
}
REJECTED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "the durable one": ((CREATED, LEASED, automatic(OLD)), DELETE, "artifact_in_use"),
    "the durable one, by retention": ((CREATED, LEASED, automatic(OLD)), GONE, "artifact_in_use"),
    "the durable one of a closed run with work left": (
        (CREATED, LEASED, automatic(OLD), load(OLD), CLOSED),
        DELETE,
        "artifact_in_use",
    ),
    "one that shall be loaded": ((*PLAIN, load(OLD)), DELETE, "artifact_in_use"),
    "one whose weights were loaded": ((*PLAIN, WEIGHTS, LOADED), DELETE, "artifact_in_use"),
    "one that the run resumes from by now": ((*PLAIN, load(OLD), LOADED), DELETE, "artifact_in_use"),
    "one that the run never saved": (PLAIN, make(c.DeleteArtifact, artifact_id=FOREIGN), "not_found"),
    "one that the run never saved, by retention": (
        PLAIN,
        make(c.RecordArtifactDeleted, artifact_id=FOREIGN),
        "not_found",
    ),
    "twice": ((*NAMED, ASKED), DELETE, "already_exists"),
    "once it is gone": ((*NAMED, ASKED, DELETED), DELETE, "not_found"),
    "gone twice": ((*NAMED, ASKED, DELETED), GONE, "not_found"),
    "a named one that nobody asked to delete": (NAMED, GONE, "invalid_value"),
    "a load of what shall be deleted": ((*NAMED, ASKED), make(c.SubmitLoadState, artifact_id=OLD), "not_found"),
    "an export of what shall be deleted": ((*NAMED, ASKED), EXPORT, "not_found"),
    "an export of what is deleted": ((*NAMED, ASKED, DELETED), EXPORT, "not_found"),
    "an export of another run's": (NAMED, make(c.ExportArtifact, artifact_id=FOREIGN), "not_found"),
    "an export under an id that waits": ((*NAMED, EXPORTING), EXPORT, "already_exists"),
    "an export under an id that was used": ((*NAMED, EXPORTING, make(e.ArtifactExported)), EXPORT, "already_exists"),
    "an export that nobody asked for": (NAMED, make(c.RecordArtifactExported), "not_found"),
    "a failure of an export that nobody asked for": (NAMED, make(c.FailArtifactExport), "not_found"),
    "an export that exists": (
        (*NAMED, EXPORTING, make(e.ArtifactExported)),
        make(c.FailArtifactExport),
        "operation_finished",
    ),
}


@pytest.mark.parametrize(("given", "when", "then"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(given: tuple[Any, ...], when: Any, then: Any) -> None:
    assert decided(given, when) == (then,)


@pytest.mark.parametrize(("given", "when", "code"), REJECTED.values(), ids=REJECTED)
def test_rejects(given: tuple[Any, ...], when: Any, code: str) -> None:
    decision = decided(given, when)
    assert isinstance(decision, Rejected)
    assert decision.code == code
    assert code in CODES


def test_waiting_exports_have_a_quota() -> None:
    other = make(c.ExportArtifact, artifact_id=OLD, export_id=NEW)
    decision = decided((*NAMED, EXPORTING), other, limits=Limits(pending_exports=1))
    assert isinstance(decision, Rejected)
    assert decision.code == "quota_exceeded"


def test_a_run_with_more_checkpoints_than_it_remembers_gives_an_unknown_one_the_benefit_of_the_doubt() -> None:
    many = tuple(automatic(n.to_bytes(16, "big")) for n in range(LIMITS.remembered_checkpoints + 1))
    state = fold("run/run-1", CREATED, LEASED, *many)
    assert isinstance(state, RunState)
    assert len(state.checkpoints) == LIMITS.remembered_checkpoints
    for forgotten in (bytes(16), FOREIGN):
        assert isinstance(decided((CREATED, LEASED, *many), make(c.DeleteArtifact, artifact_id=forgotten)), tuple)
