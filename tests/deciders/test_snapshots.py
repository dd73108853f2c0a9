"""Every state survives a snapshot, in one form; what is no snapshot is refused."""

from __future__ import annotations

from typing import Any

import pytest

from producers.deciders.registry import dump, load
from producers.deciders.snapshot import SnapshotError
from schemas import events as e
from schemas.types import StartSpec
from tests.deciders.examples import API_KEY, ARTIFACT, ARTIFACT_KEY, fold, make

STATES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "chain": (
        "chain",
        (
            e.ChainOpened(1, "acme", "tensorguard.local/x/acme", 0, bytes(32)),
            e.EpochOpened(3, "w"),
            e.SchemaRegistered("event", "RunCreated", b"\x01" * 32, "{}"),
        ),
    ),
    "producer": ("producer/00", (make(e.ProducerEnrolled, hpke_public_key=b"\x00\xff"), make(e.ProducerRevoked))),
    "api key": ("api-key/00", (make(e.ApiKeyIssued, **API_KEY),)),
    "signer": ("signer", (make(e.SignerKeyPublished), make(e.SignerKeyRotated, ed25519_key=b"\x01" * 32))),
    "artifact key": ("artifact-key/00", (make(e.ArtifactKeyPublished, **ARTIFACT_KEY),)),
    "model": ("model/tiny", (make(e.ModelRegistered),)),
    "run": (
        "run/run-1",
        (
            make(e.RunCreated),
            make(e.RunLeaseGranted),
            make(e.ForwardBackwardSubmitted),
            make(e.ForwardBackwardCompleted),
            make(e.LoadStateSubmitted, operation_id=b"\x07" * 16, op_seq=2),
            make(e.CancellationRequested, operation_id=b"\x07" * 16),
        ),
    ),
    "sealed run": (
        "run/run-1",
        (
            make(e.RunCreated, batch_retention="sealed", start=StartSpec(ARTIFACT, bytes(32), 3)),
            make(e.RunLeaseGranted),
            make(e.ForwardBackwardSubmitted, interval=0),
            make(e.ForwardBackwardCompleted),
            make(e.LoadStateSubmitted, operation_id=b"\x07" * 16, op_seq=2, include_optimizer=False, step=5),
            make(e.CheckpointLoaded, operation_id=b"\x07" * 16, step=5),
            make(e.CheckpointSaved, operation_id=None, name=None, step=5, through_op_seq=2),
            make(e.ForwardBackwardSubmitted, operation_id=b"\x08" * 16, op_seq=3, interval=2),
            make(e.ForwardBackwardCompleted, operation_id=b"\x08" * 16),
            make(e.OptimStepSubmitted, operation_id=b"\x09" * 16, op_seq=4, max_grad_norm=1.0),
            make(e.RunLeaseGranted, lease_epoch=2),
            make(e.ArtifactExportRequested),
            make(e.ArtifactExportRequested, export_id=bytes(16)),
            make(e.ArtifactExported),
            make(e.ArtifactDeletionRequested),
        ),
    ),
    "package": ("package/00", (make(e.PackageRequested), make(e.PackageSigned))),
    "rejections": ("rejections", (e.CommandRejected(bytes(16), "CreateRun", "run/x", "forbidden", "No."),)),
    "nothing yet": ("run/run-2", ()),
}

DAMAGED = {
    "no JSON": b"{",
    "no object": b"[]",
    "another state": b'{"key_id":"00","revoked":false}',
    "a field of another type": b'{"key_id":1,"revoked":false}',
    "a field too many": b'{"key_id":"00","more":1,"revoked":false}',
    "spaces": b'{"key_id": "00","revoked":false}',
    "another order": b'{"revoked":false,"key_id":"00"}',
    "no text": b"\xff",
}


@pytest.mark.parametrize(("stream", "events"), STATES.values(), ids=STATES)
def test_a_state_survives_a_snapshot(stream: str, events: tuple[Any, ...]) -> None:
    state = fold(stream, *events)
    assert load(stream, dump(state)) == state
    assert dump(load(stream, dump(state))) == dump(state)


@pytest.mark.parametrize(("name", "data"), DAMAGED.items(), ids=DAMAGED)
def test_what_is_no_snapshot_is_refused(name: str, data: bytes) -> None:
    stream = "model/tiny" if name == "another state" else "api-key/00"
    with pytest.raises(SnapshotError):
        load(stream, data)


@pytest.mark.parametrize("stream", [stream for stream, _ in STATES.values()])
def test_an_event_out_of_place_changes_nothing(stream: str) -> None:
    assert fold(stream, make(e.PackageOpened)) is None
    assert fold(stream, make(e.StepApplied), make(e.ProducerRevoked), make(e.RunClosed)) is None
