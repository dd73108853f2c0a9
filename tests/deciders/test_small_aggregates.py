"""Producers, API keys, models, the signer, artifact keys, packages: what they accept, and all that they refuse."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from producers.deciders.context import CODES, Rejected
from producers.deciders.producer import stream_of_key
from schemas import commands as c
from schemas import events as e
from tests.deciders.examples import API_KEY, ARTIFACT_KEY, DEVICE, KEY_ID, NOW, decided, fold, make

ENROLLED = make(e.ProducerEnrolled)
REVOKED = make(e.ProducerRevoked)
ISSUED = make(e.ApiKeyIssued, **API_KEY)
PUBLISHED = make(e.SignerKeyPublished)
ROTATED = make(e.SignerKeyRotated, ed25519_key=b"\x31" * 32)
REQUESTED = make(e.PackageRequested)
SIGNED = make(e.PackageSigned)
MOVED, CONTINUED = make(e.LedgerMoved), make(e.LedgerContinued)

ACCEPTED: dict[str, tuple[tuple[Any, ...], Any, Any]] = {
    "a producer is enrolled": ((), make(c.EnrolProducer), ENROLLED),
    "a device is enrolled with the key that packages are sealed to": (
        (),
        make(c.EnrolProducer, role="device", hpke_public_key=b"x" * 1216),
        make(e.ProducerEnrolled, role="device", hpke_public_key=b"x" * 1216),
    ),
    "a producer is revoked": ((ENROLLED,), make(c.RevokeProducer), REVOKED),
    "an API key is issued": ((), make(c.IssueApiKey, **API_KEY), ISSUED),
    "an API key is revoked": ((ISSUED,), make(c.RevokeApiKey, **API_KEY), make(e.ApiKeyRevoked, **API_KEY)),
    "a model is registered": ((), make(c.RegisterModel), make(e.ModelRegistered)),
    "a model is removed": ((make(e.ModelRegistered),), make(c.RemoveModel), make(e.ModelRemoved)),
    "a name is registered again after its removal": (
        (make(e.ModelRegistered), make(e.ModelRemoved)),
        make(c.RegisterModel, manifest_digest=b"\x07" * 32),
        make(e.ModelRegistered, manifest_digest=b"\x07" * 32),
    ),
    "a model is removed that was registered again": (
        (make(e.ModelRegistered), make(e.ModelRemoved), make(e.ModelRegistered)),
        make(c.RemoveModel),
        make(e.ModelRemoved),
    ),
    "a chain is moved": ((), make(c.MoveLedger), MOVED),
    "a chain that was moved goes on": ((MOVED,), make(c.ContinueLedger), CONTINUED),
    "a chain is moved back": (
        (MOVED, CONTINUED),
        make(c.MoveLedger, ledger="home"),
        make(e.LedgerMoved, ledger="home"),
    ),
    "the signer's first keys are published": ((), make(c.PublishSignerKey), PUBLISHED),
    "the signer's keys are rotated": ((PUBLISHED,), make(c.RotateSignerKey, ed25519_key=b"\x31" * 32), ROTATED),
    "an artifact key is published": (
        (),
        make(c.PublishArtifactKey, **ARTIFACT_KEY),
        make(e.ArtifactKeyPublished, **ARTIFACT_KEY),
    ),
    "a package is signed": ((REQUESTED,), make(c.RecordPackageSigned), SIGNED),
    "a package fails": ((REQUESTED,), make(c.FailPackage), make(e.PackageFailed)),
}

REJECTED: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "producer: enrolled twice": ((ENROLLED,), make(c.EnrolProducer), "already_exists"),
    "producer: enrolled again after its revocation": ((ENROLLED, REVOKED), make(c.EnrolProducer), "already_exists"),
    "producer: an id that is not the key's": ((), make(c.EnrolProducer, key_id=b"\x09" * 32), "invalid_value"),
    "producer: a device without a key to seal to": ((), make(c.EnrolProducer, role="device"), "invalid_value"),
    "producer: a worker with a key to seal to": (
        (),
        make(c.EnrolProducer, hpke_public_key=b"x" * 1216),
        "invalid_value",
    ),
    "producer: unknown, revoked": ((), make(c.RevokeProducer), "not_found"),
    "producer: revoked twice": ((ENROLLED, REVOKED), make(c.RevokeProducer), "already_revoked"),
    "API key: issued twice": ((ISSUED,), make(c.IssueApiKey, **API_KEY), "already_exists"),
    "API key: unknown, revoked": ((), make(c.RevokeApiKey, **API_KEY), "not_found"),
    "API key: revoked twice": (
        (ISSUED, make(e.ApiKeyRevoked, **API_KEY)),
        make(c.RevokeApiKey, **API_KEY),
        "already_revoked",
    ),
    "model: a name that is taken": ((make(e.ModelRegistered),), make(c.RegisterModel), "already_exists"),
    "model: unknown, removed": ((), make(c.RemoveModel), "not_found"),
    "model: removed twice": ((make(e.ModelRegistered), make(e.ModelRemoved)), make(c.RemoveModel), "not_found"),
    "model: other files removed": (
        (make(e.ModelRegistered),),
        make(c.RemoveModel, manifest_digest=bytes(32)),
        "invalid_value",
    ),
    "ledger: moved to where it is": ((MOVED, CONTINUED), make(c.MoveLedger), "already_exists"),
    "ledger: continued, never moved": ((), make(c.ContinueLedger), "not_found"),
    "ledger: continued elsewhere than it was moved to": (
        (MOVED,),
        make(c.ContinueLedger, ledger="other"),
        "not_found",
    ),
    "ledger: continued twice": ((MOVED, CONTINUED), make(c.ContinueLedger), "not_found"),
    "signer: first keys twice": ((PUBLISHED,), make(c.PublishSignerKey), "already_exists"),
    "signer: rotated before it has keys": ((), make(c.RotateSignerKey), "not_found"),
    "signer: rotated from another key than the one in use": (
        (PUBLISHED,),
        make(c.RotateSignerKey, previous_ed25519_key=b"\x77" * 32),
        "version_conflict",
    ),
    "signer: rotated to the key in use": ((PUBLISHED,), make(c.RotateSignerKey), "already_exists"),
    "signer: rotated back to an old key": (
        (PUBLISHED, ROTATED),
        make(c.RotateSignerKey, previous_ed25519_key=b"\x31" * 32),
        "already_exists",
    ),
    "artifact key: published twice": (
        (make(e.ArtifactKeyPublished, **ARTIFACT_KEY),),
        make(c.PublishArtifactKey, **ARTIFACT_KEY),
        "already_exists",
    ),
    "artifact key: an id that is not the key's": (
        (),
        make(c.PublishArtifactKey, public_key=b"\x05" * 1984),
        "invalid_value",
    ),
    "package: asked for twice": ((REQUESTED,), make(c.RequestPackage), "already_exists"),
    "package: of no run": ((), make(c.RequestPackage), "not_found"),
    "package: signed before it is asked for": ((), make(c.RecordPackageSigned), "not_found"),
    "package: signed twice": ((REQUESTED, SIGNED), make(c.RecordPackageSigned), "operation_finished"),
    "package: fails after it is signed": ((REQUESTED, SIGNED), make(c.FailPackage), "operation_finished"),
    "package: signed after it failed": (
        (REQUESTED, make(e.PackageFailed)),
        make(c.RecordPackageSigned),
        "operation_finished",
    ),
    "package: opened, reported by another device": (
        (REQUESTED, SIGNED),
        make(c.RecordPackageOpened),
        "forbidden",
    ),
    "package: opened by a device it is not sealed to": (
        (REQUESTED, SIGNED),
        make(c.RecordPackageOpened, device=KEY_ID),
        "forbidden",
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


def test_the_authority_takes_no_other_role() -> None:
    assert decided((), make(c.EnrolProducer), key_id=KEY_ID) == Rejected(
        "invalid_value", "The authority's own key takes no other role."
    )


class TestPackages:
    """Decisions on packages look at the run, and at the devices enrolled on the chain."""

    CHAIN: ClassVar[dict[str, object | None]] = {
        "run/run-1": fold("run/run-1", make(e.RunCreated)),
        stream_of_key(DEVICE): fold("producer/x", make(e.ProducerEnrolled, key_id=DEVICE, role="device")),
        stream_of_key(b"\x04" * 32): fold("producer/x", make(e.ProducerEnrolled, key_id=b"\x04" * 32)),
        stream_of_key(b"\x06" * 32): fold("producer/x", make(e.ProducerEnrolled, role="device"), REVOKED),
    }
    REJECTED: ClassVar[dict[str, tuple[dict[str, Any], str]]] = {
        "of another run": ({"run_id": "run-2"}, "not_found"),
        "for an unknown device": ({"recipients": (DEVICE, b"\x05" * 32)}, "not_found"),
        "for a producer that is no device": ({"recipients": (b"\x04" * 32,)}, "not_found"),
        "for a revoked device": ({"recipients": (b"\x06" * 32,)}, "not_found"),
        "expired already": ({"expires_at": NOW}, "invalid_value"),
    }

    def test_a_package_of_a_run_for_a_device_is_asked_for(self) -> None:
        assert decided((), make(c.RequestPackage), find=self.CHAIN.get) == (REQUESTED,)

    @pytest.mark.parametrize(("fields", "code"), REJECTED.values(), ids=REJECTED)
    def test_rejects(self, fields: dict[str, Any], code: str) -> None:
        decision = decided((), make(c.RequestPackage, **fields), find=self.CHAIN.get)
        assert isinstance(decision, Rejected)
        assert decision.code == code

    def test_a_recipient_opens_it(self) -> None:
        decision = decided((REQUESTED, SIGNED), make(c.RecordPackageOpened), key_id=DEVICE)
        assert decision == (make(e.PackageOpened),)

    def test_nobody_opens_it_before_it_is_signed(self) -> None:
        decision = decided((REQUESTED,), make(c.RecordPackageOpened), key_id=DEVICE)
        assert isinstance(decision, Rejected)
        assert decision.code == "not_found"

    def test_another_package_is_not_reported_under_its_id(self) -> None:
        opened = make(c.RecordPackageOpened, package_digest=b"\x01" * 32)
        decision = decided((REQUESTED, SIGNED), opened, key_id=DEVICE)
        assert isinstance(decision, Rejected)
        assert decision.code == "invalid_value"
