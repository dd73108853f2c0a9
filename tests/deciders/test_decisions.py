"""A chain whose history was changed and made consistent again does not survive the replay of its decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.deciders import engine
from producers.deciders.context import Rejected
from producers.decisions import replay
from schemas import codec
from schemas import commands as c
from schemas import events as e
from tests.deciders.examples import make
from tests.deciders.scribe import Entry, Scribe, seal, sign

RUN = {"run_id": "run-1"}


def session() -> Scribe:
    """A run with two accepted steps' work, a rejection, and a worker that was replaced."""
    scribe = Scribe()
    scribe.send(make(c.CreateRun), "gateway")
    scribe.send(make(c.GrantLease), "dispatcher")
    batch = scribe.envelope(make(c.SubmitForwardBackward), correlation=b"\x05" * 16, trace=b"\x06" * 16)
    scribe.take(sign(batch, "gateway"))
    scribe.send(make(c.CompleteForwardBackward, operation_id=batch.command_id), "worker")
    scribe.send(make(c.SubmitOptimStep), "gateway", expected_version=4)
    scribe.send(make(c.SubmitOptimStep), "gateway")
    scribe.send(make(c.SubmitSample), "gateway")
    scribe.send(make(c.GrantLease, worker="trainer-2"), "dispatcher")
    scribe.send(make(c.CloseRun), "gateway")
    return scribe


def sealed_session() -> Scribe:
    """A sealed run whose worker was replaced: its step was computed again, then made durable, its inputs let go."""
    scribe = Scribe(roles=("gateway", "dispatcher", "worker", "retention"))
    scribe.send(make(c.CreateRun, batch_retention="sealed"), "gateway")
    scribe.send(make(c.GrantLease), "dispatcher")
    batch = scribe.envelope(make(c.SubmitForwardBackward, interval=0))
    scribe.take(sign(batch, "gateway"))
    scribe.send(make(c.CompleteForwardBackward, operation_id=batch.command_id), "worker")
    step = scribe.envelope(make(c.SubmitOptimStep))
    scribe.take(sign(step, "gateway"))
    scribe.send(make(c.RecordStep, operation_id=step.command_id), "worker")
    scribe.send(make(c.GrantLease, worker="trainer-2"), "dispatcher")
    again = {"lease_epoch": 2, "through_op_seq": 2}
    scribe.send(make(c.RecordReplay, **again), "worker")
    scribe.send(make(c.RecordCheckpoint, **again, operation_id=None, name=None), "worker")
    scribe.send(make(c.RecordBatchKeyDestroyed, interval=0), "retention")
    return scribe


def accepted(entries: list[Entry], event: type[Any], nth: int = 0) -> int:
    return [i for i, entry in enumerate(entries) if isinstance(entry.event, event)][nth]


def into_rejection(entry: Entry, code: str = "quota_exceeded") -> Entry:
    assert entry.signed is not None
    event = engine.rejection_event(entry.signed.envelope(), Rejected(code, "Come again later."))
    return replace(entry, stream="rejections", event=event)


def codes(chain: str, entries: list[Entry]) -> list[str]:
    return [finding.code for finding in replay(chain, seal(chain, entries))]


def schema_first(scribe: Scribe, entries: list[Entry]) -> list[Entry]:
    """With the schema of rejections registered from the start, so that any acceptance can be turned into one."""
    registration = accepted(entries, e.SchemaRegistered)
    mine = next(
        x for x in scribe.entries if isinstance(x.event, e.SchemaRegistered) and x.event.name == "CommandRejected"
    )
    rest = [entry for entry in entries if entry.event != mine.event]
    moved = replace(mine, recorded_at=entries[registration].recorded_at)
    return [*rest[:registration], moved, *rest[registration:]]


def test_an_untouched_chain_has_no_findings() -> None:
    scribe = session()
    assert sum(isinstance(entry.event, e.CommandRejected) for entry in scribe.entries) == 1
    assert sum(isinstance(entry.event, e.RunRolledBack) for entry in scribe.entries) == 1
    assert replay("acme", scribe.records()) == []


def test_an_untouched_chain_of_a_sealed_run_has_no_findings() -> None:
    scribe = sealed_session()
    told = [type(entry.event) for entry in scribe.entries]
    assert {e.RunReplayed, e.BatchKeyDestroyed} < set(told)
    assert e.CommandRejected not in told
    assert replay("acme", scribe.records()) == []


def accept_into_reject(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.SampleSubmitted)
    return [*entries[:at], into_rejection(entries[at]), *entries[at + 1 :]]


def reject_into_accept(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.CommandRejected)
    signed = entries[at].signed
    assert signed is not None
    event = make(e.OptimStepSubmitted, operation_id=signed.envelope().command_id, op_seq=2)
    schema = accepted(entries, e.SchemaRegistered, -1)
    submitted = next(
        i
        for i, x in enumerate(entries)
        if isinstance(x.event, e.SchemaRegistered) and x.event.name == "OptimStepSubmitted"
    )
    registration = replace(entries[submitted], recorded_at=entries[at].recorded_at)
    assert schema > at
    changed = replace(entries[at], stream="run/run-1", event=event)
    rest = [x for i, x in enumerate(entries[at + 1 :], at + 1) if i != submitted]
    return [*entries[:at], registration, changed, *rest]


def another_reason(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.CommandRejected)
    return [*entries[:at], into_rejection(entries[at]), *entries[at + 1 :]]


def changed_body(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.ForwardBackwardCompleted)
    better: Any = replace(entries[at].event, loss=0.1)  # type: ignore[call-arg]
    return [*entries[:at], replace(entries[at], event=better), *entries[at + 1 :]]


def changed_stream(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.RunCreated)
    return [*entries[:at], replace(entries[at], stream="run/other"), *entries[at + 1 :]]


def changed_time(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.RunRolledBack)
    later = replace(entries[at], recorded_at=entries[at].recorded_at + 1)
    return [*entries[:at], later, *(replace(x, recorded_at=x.recorded_at + 1) for x in entries[at + 1 :])]


def without_the_loss(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if not isinstance(entry.event, e.RunRolledBack)]


def the_loss_twice(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.RunRolledBack)
    return [*entries[: at + 1], entries[at], *entries[at + 1 :]]


def out_of_nothing(entries: list[Entry]) -> list[Entry]:
    last = entries[-1].recorded_at
    return [*entries, Entry("run/run-1", make(e.RunLeaseGranted, lease_epoch=3), last)]


def decided_twice(entries: list[Entry]) -> list[Entry]:
    return [*entries, into_rejection(entries[accepted(entries, e.RunCreated)])]


def by_nobody_enrolled(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.RunCreated)
    signed = entries[at].signed
    assert signed is not None
    forged = sign(signed.envelope(), "packager")
    return [*entries[:at], replace(entries[at], signed=forged, caused=forged), *entries[at + 1 :]]


def decided_late(entries: list[Entry]) -> list[Entry]:
    day = 24 * 3600 * 10**6
    return [*entries[:-1], replace(entries[-1], recorded_at=entries[-1].recorded_at + day)]


def own_event_of_a_command(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.EpochOpened)
    cause = entries[accepted(entries, e.RunCreated)].signed
    return [*entries[:at], replace(entries[at], caused=cause), *entries[at + 1 :]]


FORGERIES: dict[str, tuple[Callable[[list[Entry]], list[Entry]], str]] = {
    "an accept turned into a reject": (accept_into_reject, "unfounded_rejection"),
    "a reject turned into an accept": (reject_into_accept, "unfounded_acceptance"),
    "a reject for another reason": (another_reason, "altered_outcome"),
    "a better loss": (changed_body, "altered_outcome"),
    "an outcome in another stream": (changed_stream, "altered_outcome"),
    "a later event of the same command": (changed_time, "altered_outcome"),
    "a loss that is kept secret": (without_the_loss, "missing_event"),
    "a loss that is told twice": (the_loss_twice, "extra_event"),
    "an event out of nothing": (out_of_nothing, "event_without_command"),
    "a command that is decided twice": (decided_twice, "repeated_command"),
    "a command of nobody enrolled": (by_nobody_enrolled, "unauthenticated_command"),
    "a command accepted after its expiry": (decided_late, "unfounded_acceptance"),
    "a sequencer's own event with a cause": (own_event_of_a_command, "event_without_command"),
}


@pytest.mark.parametrize(("forge", "code"), FORGERIES.values(), ids=FORGERIES)
def test_a_consistent_forgery_is_found(forge: Callable[[list[Entry]], list[Entry]], code: str) -> None:
    assert code in codes("acme", forge(session().entries))


def test_the_finding_names_the_record() -> None:
    entries = accept_into_reject(session().entries)
    (finding, *_) = replay("acme", seal("acme", entries))
    forged = next(
        i
        for i, entry in enumerate(entries)
        if isinstance(entry.event, e.CommandRejected) and entry.event.code == "quota_exceeded"
    )
    assert (finding.chain, finding.seq) == ("acme", forged)


def test_a_chain_that_is_presented_as_another_ones_is_found() -> None:
    assert "unauthenticated_command" in [finding.code for finding in replay("umbrella", session().records())]


REGISTERED_FALSELY: dict[str, Callable[[e.SchemaRegistered], e.SchemaRegistered]] = {
    "another text under the digest": lambda r: replace(r, text=r.text.replace("lost_operations", "found_operations")),
    "a text that is no record's": lambda r: replace(r, text=codec.command_schema("CloseRun").text),
    "a text that is no schema": lambda r: replace(r, text="{"),
}


@pytest.mark.parametrize("falsify", REGISTERED_FALSELY.values(), ids=REGISTERED_FALSELY.keys())
def test_a_schema_that_is_registered_falsely_is_a_finding_and_never_an_exception(
    falsify: Callable[[e.SchemaRegistered], e.SchemaRegistered],
) -> None:
    scribe = session()
    entries = [
        replace(entry, event=falsify(entry.event))
        if isinstance(entry.event, e.SchemaRegistered) and entry.event.name == "RunRolledBack"
        else entry
        for entry in scribe.entries
    ]
    assert "malformed_record" in codes(scribe.chain, entries)


def test_an_unreadable_record_ends_the_replay_with_a_finding() -> None:
    records = session().records()
    findings = replay("acme", [*records[:5], b"\x00" * 200, *records[5:]])
    assert [(finding.code, finding.seq) for finding in findings] == [("malformed_record", 5)]


COMMANDS = st.sampled_from(
    [
        (c.SubmitForwardBackward, "gateway"),
        (c.SubmitOptimStep, "gateway"),
        (c.SubmitSample, "gateway"),
        (c.GrantLease, "dispatcher"),
        (c.CloseRun, "worker"),
        (c.RequestCancellation, "gateway"),
    ]
)


@settings(max_examples=25, deadline=None)
@given(asked=st.lists(COMMANDS, min_size=1, max_size=12), data=st.data())
def test_any_history_replays_and_no_acceptance_can_be_turned_into_a_rejection(
    asked: list[tuple[type[Any], str]], data: st.DataObject
) -> None:
    scribe = Scribe()
    scribe.send(make(c.CreateRun), "worker")
    scribe.send(make(c.CreateRun), "gateway")
    for command, role in asked:
        scribe.send(make(command), role)
    entries = schema_first(scribe, scribe.entries)
    assert codes("acme", entries) == []
    turned = data.draw(
        st.sampled_from(
            [i for i, x in enumerate(entries) if x.signed is not None and not isinstance(x.event, e.CommandRejected)]
        )
    )
    followers = [x for x in entries[turned + 1 :] if x.caused != entries[turned].signed]
    forged = [*entries[:turned], into_rejection(entries[turned]), *followers]
    assert "unfounded_rejection" in codes("acme", forged)


def another_replay(entries: list[Entry]) -> list[Entry]:
    at = accepted(entries, e.RunReplayed)
    worse: Any = replace(entries[at].event, identical=False, differing_step=1)  # type: ignore[call-arg]
    return [*entries[:at], replace(entries[at], event=worse), *entries[at + 1 :]]


def without_the_replay(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if not isinstance(entry.event, e.RunReplayed)]


def without_the_checkpoint(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if not isinstance(entry.event, e.CheckpointSaved)]


SEALED_FORGERIES: dict[str, tuple[Callable[[list[Entry]], list[Entry]], str]] = {
    "a replay with another outcome": (another_replay, "altered_outcome"),
    "work that goes on before the replay": (without_the_replay, "unfounded_acceptance"),
    "a key that is destroyed before its inputs are covered": (without_the_checkpoint, "unfounded_acceptance"),
}


@pytest.mark.parametrize(("forge", "code"), SEALED_FORGERIES.values(), ids=SEALED_FORGERIES)
def test_a_consistent_forgery_of_a_sealed_run_is_found(forge: Callable[[list[Entry]], list[Entry]], code: str) -> None:
    assert code in codes("acme", forge(sealed_session().entries))
