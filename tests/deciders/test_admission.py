"""What every command must pass before its decider sees it, and whose signature counts."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, ClassVar

import pytest
from tensorguard.ledger import format as fmt
from tensorguard.ledger.envelope import SignedCommand, key_id_of
from tensorguard.ledger.errors import MalformedRecordError
from tensorguard.ledger.record import Meta, encode_record

from producers.deciders import engine, registry
from producers.deciders.context import LIMITS, Rejected
from producers.deciders.values import CHECKS, invalid_value
from schemas import commands as c
from schemas.codec import COMMANDS, EVENTS, event_schema, to_dict
from schemas.types import ModelFile
from tests.deciders.examples import API_KEY, ARTIFACT_KEY, DEFAULTS, NOW, make
from tests.deciders.scribe import HOUR, Scribe, public_of, sign

RUN = make(c.CreateRun)
MODEL = make(c.RegisterModel)

ENVELOPES: dict[str, tuple[Any, str, dict[str, Any], str]] = {
    "foreign tenant": (RUN, "gateway", {"tenant": "umbrella"}, "foreign_tenant"),
    "wrong role: a worker creates a run": (RUN, "worker", {}, "forbidden"),
    "wrong role: a gateway reports an outcome": (make(c.RecordStep), "gateway", {}, "forbidden"),
    "wrong role: a gateway grants a lease": (make(c.GrantLease), "gateway", {}, "forbidden"),
    "wrong role: a gateway enrols a producer": (make(c.EnrolProducer), "gateway", {}, "forbidden"),
    "wrong role: the authority submits work": (make(c.SubmitSample), "authority", {}, "forbidden"),
    "on behalf of an unknown API key": (RUN, "gateway", {"on_behalf_of": "0" * 16}, "forbidden"),
    "on behalf of a revoked API key": (RUN, "gateway", {"on_behalf_of": API_KEY["key_id"]}, "forbidden"),
    "on behalf of an API key by a worker": (
        make(c.RecordStep),
        "worker",
        {"on_behalf_of": API_KEY["key_id"]},
        "forbidden",
    ),
    "wrong stream: another run's": (RUN, "gateway", {"stream": "run/other"}, "wrong_stream"),
    "wrong stream: no stream": (RUN, "gateway", {"stream": ""}, "wrong_stream"),
    "wrong stream: a model on a tenant's chain": (MODEL, "authority", {}, "wrong_stream"),
    "expired": (RUN, "gateway", {"issued_at": NOW - 2, "expires_at": NOW - 1}, "expired"),
    "expired: over before it begins": (RUN, "gateway", {"issued_at": NOW + HOUR + 1}, "expired"),
    "expired: issued in the future": (
        RUN,
        "gateway",
        {"issued_at": NOW + LIMITS.clock_skew + HOUR, "expires_at": NOW + 10 * HOUR},
        "expired",
    ),
    "wrong version: behind": (make(c.CloseRun, run_id="known"), "gateway", {"expected_version": 0}, "version_conflict"),
    "wrong version: ahead": (make(c.CloseRun, run_id="known"), "gateway", {"expected_version": 2}, "version_conflict"),
    "wrong version: of no run": (RUN, "gateway", {"expected_version": 1}, "version_conflict"),
    "an oversized body": (make(c.GrantLease, worker="w" * LIMITS.body_bytes), "dispatcher", {}, "invalid_value"),
}


@pytest.fixture
def scribe() -> Scribe:
    scribe = Scribe()
    scribe.send(make(c.IssueApiKey, **API_KEY), "authority")
    scribe.send(make(c.RevokeApiKey, **API_KEY), "authority")
    scribe.send(make(c.CreateRun, run_id="known"), "gateway")
    return scribe


@pytest.mark.parametrize(("command", "role", "given", "code"), ENVELOPES.values(), ids=ENVELOPES)
def test_rejects(scribe: Scribe, command: Any, role: str, given: dict[str, Any], code: str) -> None:
    verdict = scribe.send(command, role, **given)
    assert isinstance(verdict, Rejected)
    assert verdict.code == code


def test_accepts_the_version_that_the_stream_has(scribe: Scribe) -> None:
    verdict = scribe.send(make(c.CloseRun, run_id="known"), "gateway", expected_version=1)
    assert isinstance(verdict, engine.Accepted)


def test_rejects_everything_on_a_chain_that_has_moved_until_it_goes_on(scribe: Scribe) -> None:
    scribe.send(make(c.MoveLedger), "authority")
    for command, role in ((RUN, "gateway"), (make(c.MoveLedger, ledger="other"), "authority")):
        verdict = scribe.send(command, role)
        assert isinstance(verdict, Rejected)
        assert verdict.code == "ledger_moved"
    assert isinstance(scribe.send(make(c.ContinueLedger), "authority"), engine.Accepted)
    assert isinstance(scribe.send(RUN, "gateway"), engine.Accepted)


def test_accepts_on_behalf_of_an_issued_api_key(scribe: Scribe) -> None:
    scribe.send(make(c.IssueApiKey, key_id="f" * 16), "authority")
    assert isinstance(scribe.send(RUN, "gateway", on_behalf_of="f" * 16), engine.Accepted)


@pytest.mark.parametrize("name", ["CreateRun", "SubmitSample", "IssueApiKey", "RequestPackage"])
def test_the_platform_chain_takes_no_tenants_command(name: str) -> None:
    command = make(COMMANDS[name], **(API_KEY if name == "IssueApiKey" else {}))
    role = next(iter(registry.AUTHORITY[type(command).__name__]))
    verdict = Scribe("platform").send(command, role)
    assert isinstance(verdict, Rejected)
    assert verdict.code == "wrong_stream"


def test_the_platform_chain_takes_models() -> None:
    assert isinstance(Scribe("platform", roles=()).send(MODEL, "authority"), engine.Accepted)


class TestSignatures:
    """Whose signature counts: the authority's, and those of producers that are enrolled and not revoked."""

    def test_a_key_that_is_not_enrolled_is_refused(self, scribe: Scribe) -> None:
        assert scribe.send(RUN, "packager") is None

    def test_a_revoked_key_is_refused(self, scribe: Scribe) -> None:
        scribe.send(make(c.RevokeProducer, key_id=key_id_of(public_of("gateway"))), "authority")
        assert scribe.send(RUN, "gateway") is None

    def test_a_signature_over_something_else_is_refused(self, scribe: Scribe) -> None:
        signed = sign(scribe.envelope(RUN), "gateway")
        other = replace(signed, payload=scribe.envelope(make(c.CreateRun, run_id="other")).to_bytes())
        assert scribe.take(other) is None

    def test_a_signature_under_the_authoritys_name_is_refused(self, scribe: Scribe) -> None:
        signed = sign(scribe.envelope(make(c.IssueApiKey, **API_KEY)), "gateway")
        assert scribe.take(replace(signed, key_id=key_id_of(public_of("authority")))) is None

    def test_a_command_for_another_chain_is_refused(self, scribe: Scribe) -> None:
        assert scribe.send(RUN, "gateway", chain="umbrella", tenant="umbrella") is None

    OPENERS: ClassVar[dict[str, tuple[Any, str, dict[str, Any], bool]]] = {
        "the authority enrols": (make(c.EnrolProducer), "authority", {}, True),
        "somebody else enrols": (make(c.EnrolProducer), "gateway", {}, False),
        "the authority does something else": (make(c.IssueApiKey, **API_KEY), "authority", {}, False),
        "no chain's name": (make(c.EnrolProducer), "authority", {"chain": "../acme", "tenant": "../acme"}, False),
        "for another tenant": (make(c.EnrolProducer), "authority", {"tenant": "umbrella"}, False),
    }

    @pytest.mark.parametrize(("command", "role", "given", "opens"), OPENERS.values(), ids=OPENERS)
    def test_only_the_authority_opens_a_chain(
        self, scribe: Scribe, command: Any, role: str, given: dict[str, Any], *, opens: bool
    ) -> None:
        presented = engine.present(sign(scribe.envelope(command, **given), role).to_bytes())
        assert engine.opens_chain(presented, public_of("authority")) == opens


MALFORMED: dict[str, dict[str, Any]] = {
    "an unknown type": {"command_type": "DropTables"},
    "an event's name": {"command_type": "RunCreated"},
    "another command's schema": {"command_type": "GrantLease"},
    "an unknown schema": {"schema": bytes(32)},
    "an empty body": {"body": b""},
    "a body with bytes left over": {"body": b"\x0arun-1\x00"},
    "a body in another encoding of the same values": {"body": b"\x8a\x00run-1"},
    "a payload that fits into no record": {"tenant": "t" * LIMITS.payload_bytes},
    "a stream's name that fits into no record": {"stream": "s" * (LIMITS.stream_bytes + 1)},
}


@pytest.mark.parametrize("given", MALFORMED.values(), ids=MALFORMED)
def test_malformed_commands_are_not_presented(scribe: Scribe, given: dict[str, Any]) -> None:
    signed = sign(scribe.envelope(make(c.CloseRun), **given), "gateway")
    with pytest.raises(MalformedRecordError):
        engine.present(signed.to_bytes())


def test_bytes_that_are_no_command_are_not_presented() -> None:
    with pytest.raises(MalformedRecordError):
        engine.present(b"no command")


def test_another_encoding_of_a_good_command_is_not_presented(scribe: Scribe) -> None:
    signed = sign(scribe.envelope(RUN), "gateway")
    data = signed.to_bytes()
    size_at = len(data) - len(signed.signature) - 4
    assert data[size_at : size_at + 2] == b"\x02\x00"
    padded = data[:size_at] + b"\x82\x00" + data[size_at + 1 :]
    assert SignedCommand.from_bytes(padded) == signed
    with pytest.raises(MalformedRecordError):
        engine.present(padded)


def test_whatever_is_presented_fits_into_a_rejection(scribe: Scribe) -> None:
    """The largest payload and stream name, under a signature shared by as many commands as there may ever be."""
    free = LIMITS.payload_bytes - len(scribe.envelope(RUN, stream="s" * LIMITS.stream_bytes, tenant="").to_bytes())
    signed = sign(scribe.envelope(RUN, stream="s" * LIMITS.stream_bytes, tenant="t" * (free - 4)), "gateway")
    presented = engine.present(signed.to_bytes())
    shared = replace(signed, batch_path=(bytes(32),) * 63, batch_index=2**62, batch_size=2**63 - 1)
    event = engine.rejection_event(presented.envelope, Rejected("foreign_tenant", "d" * 512))
    schema = event_schema("CommandRejected")
    big, id16 = 2**62, bytes(16)
    meta = Meta(bytes(32), "c" * 63, big, big, schema.digest, id16, "rejections", big, big, id16, id16, id16)
    assert len(encode_record(schema.text, meta, shared, to_dict(event))) <= fmt.MAX_RECORD_BYTES


NAN, INFINITY = float("nan"), float("inf")
LORA, OPTIMIZER, PLAN = DEFAULTS["lora"], DEFAULTS["optimizer"], DEFAULTS["plan"]

VALUES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "a NaN loss": (c.CompleteForwardBackward, {"loss": NAN}),
    "an infinite loss": (c.CompleteForwardBackward, {"loss": INFINITY}),
    "a NaN gradient": (c.CompleteForwardBackward, {"grad_norm": NAN}),
    "a negative gradient norm": (c.CompleteForwardBackward, {"grad_norm": -1.0}),
    "negative tokens": (c.CompleteForwardBackward, {"tokens": -1}),
    "a batch without rows": (c.SubmitForwardBackward, {"rows": 0}),
    "a batch without tokens": (c.SubmitForwardBackward, {"tokens": 0}),
    "a negative generation": (c.SubmitForwardBackward, {"generation": -1}),
    "a learning rate of zero": (c.SubmitOptimStep, {"learning_rate": 0.0}),
    "an infinite learning rate": (c.SubmitOptimStep, {"learning_rate": INFINITY}),
    "a NaN learning rate": (c.SubmitOptimStep, {"learning_rate": NAN}),
    "a negative temperature": (c.SubmitSample, {"temperature": -0.1}),
    "a NaN temperature": (c.SubmitSample, {"temperature": NAN}),
    "a top-p of zero": (c.SubmitSample, {"top_p": 0.0}),
    "a top-p above one": (c.SubmitSample, {"top_p": 1.01}),
    "a NaN top-p": (c.SubmitSample, {"top_p": NAN}),
    "no prompts": (c.SubmitSample, {"prompts": 0}),
    "no tokens to sample": (c.SubmitSample, {"max_tokens": 0}),
    "a checkpoint's name that climbs": (c.SubmitSaveState, {"name": "../up"}),
    "an empty checkpoint's name": (c.SubmitSaveState, {"name": ""}),
    "a checkpoint of nothing": (c.RecordCheckpoint, {"size_bytes": 0}),
    "a failure for no known reason": (c.FailOperation, {"code": "because"}),
    "a run id that climbs": (c.CreateRun, {"run_id": "../up"}),
    "a model that is a path": (c.CreateRun, {"model": "/etc/passwd"}),
    "a batch size of zero": (c.CreateRun, {"batch_size": 0}),
    "no accumulation": (c.CreateRun, {"gradient_accumulation_steps": 0}),
    "no steps": (c.CreateRun, {"max_steps": 0}),
    "a rank of zero": (c.CreateRun, {"lora": replace(LORA, rank=0)}),
    "a NaN alpha": (c.CreateRun, {"lora": replace(LORA, alpha=NAN)}),
    "a dropout of one": (c.CreateRun, {"lora": replace(LORA, dropout=1.0)}),
    "a module twice": (c.CreateRun, {"lora": replace(LORA, target_modules=("q", "q"))}),
    "an unknown bias": (c.CreateRun, {"lora": replace(LORA, bias="some")}),
    "an infinite weight decay": (c.CreateRun, {"optimizer": replace(OPTIMIZER, weight_decay=INFINITY)}),
    "a beta of one": (c.CreateRun, {"optimizer": replace(OPTIMIZER, beta1=1.0)}),
    "a NaN beta": (c.CreateRun, {"optimizer": replace(OPTIMIZER, beta2=NAN)}),
    "an eps of zero": (c.CreateRun, {"optimizer": replace(OPTIMIZER, eps=0.0)}),
    "a step zero": (c.RecordStep, {"step": 0}),
    "no lease": (c.RecordStep, {"lease_epoch": 0}),
    "no threads": (c.RecordStep, {"plan": replace(PLAN, threads=0)}),
    "an empty worker": (c.GrantLease, {"worker": ""}),
    "a lease before the first": (c.GrantLease, {"former_epoch": -1}),
    "an unknown role": (c.EnrolProducer, {"role": "admin"}),
    "a second authority": (c.EnrolProducer, {"role": "authority"}),
    "a name over several lines": (c.EnrolProducer, {"name": "a\nb"}),
    "a short key to seal to": (c.EnrolProducer, {"role": "device", "hpke_public_key": b"x"}),
    "an API key's id that is no id": (c.IssueApiKey, {"key_id": "key"}),
    "a short signer key": (c.PublishSignerKey, {"mldsa44_key": b"x"}),
    "a short next signer key": (c.RotateSignerKey, {"mldsa44_key": b"x"}),
    "a short artifact key": (c.PublishArtifactKey, {"public_key": b"x"}),
    "a model without files": (c.RegisterModel, {"files": ()}),
    "a model file that climbs": (c.RegisterModel, {"files": (ModelFile("../x", bytes(32), 1),)}),
    "a model file with a root": (c.RegisterModel, {"files": (ModelFile("/x", bytes(32), 1),)}),
    "a model file twice": (c.RegisterModel, {"files": (ModelFile("x", bytes(32), 1),) * 2}),
    "a model without vocabulary": (c.RegisterModel, {"vocabulary_size": 0}),
    "a package for nobody": (c.RequestPackage, {"recipients": ()}),
    "a package for one device twice": (c.RequestPackage, {"recipients": (bytes(32), bytes(32))}),
    "a negative release counter": (c.RequestPackage, {"release_counter": -1}),
    "an empty package": (c.RecordPackageSigned, {"size_bytes": 0}),
}


@pytest.mark.parametrize(("command", "given"), VALUES.values(), ids=VALUES)
def test_rejects_values_that_no_run_could_work_with(command: type[Any], given: dict[str, Any]) -> None:
    refusal = invalid_value(make(command, **given))
    assert refusal is not None
    assert refusal.code == "invalid_value"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_rule_and_checks_that_pass_a_good_one(name: str) -> None:
    command = COMMANDS[name]
    assert {check.partition(".")[0] for check in CHECKS[command]} <= {f.name for f in fields(command)}
    special: dict[str, dict[str, Any]] = {
        "IssueApiKey": API_KEY,
        "RevokeApiKey": API_KEY,
        "PublishArtifactKey": ARTIFACT_KEY,
    }
    good = special.get(name, {})
    assert invalid_value(make(command, **good)) is None
    assert registry.AUTHORITY[name] <= registry.ROLES


def test_nothing_private_of_a_command_stands_in_a_refusal() -> None:
    canary = "canary-7f3a"
    refusal = invalid_value(make(c.SubmitSaveState, name=f"{canary}/"))
    assert refusal is not None
    assert canary not in refusal.detail


def test_every_event_but_the_sequencers_own_belongs_to_a_command() -> None:
    own = {name for name, _ in fmt.BOOTSTRAP.values()}
    assert own == {"ChainOpened", "SchemaRegistered", "EpochOpened"}
    assert own < set(EVENTS)
    assert all(event_schema(name).digest in fmt.BOOTSTRAP for name in own)
