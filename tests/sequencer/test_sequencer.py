"""What the one writer does with commands: good, bad, repeated, poisonous; and who may be it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.ledger import format as fmt
from tensorguard.ledger.record import decode_record

from producers.engines.errors import FencedError, UnreachableError
from producers.engines.kafka import messages
from producers.engines.port import ACCEPTED, REFUSED, REJECTED, IntakeEntry
from producers.identities import Producer, make_envelope
from producers.sequencer import Limits, Sequencer
from producers.sequencer.batch import Batch, Founder
from producers.sequencer.fold import ChainFold
from producers.sequencer.recover import recover
from producers.sequencer.seal import Writer
from schemas.codec import EVENTS, command_schema, event_schema
from schemas.commands import EnrolProducer
from schemas.events import CommandRejected, EpochOpened, SchemaRegistered
from tests.support.ledgers import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tensorguard.ledger.envelope import Envelope

    from producers.engines.port import LogEngine, Reply

STRANGER = Producer("authority", b"\x11" * 32)
KAFKA_TAKES = 1_000_000


class Away:
    """The real engine, away when it is asked for a reply for the first time."""

    def __init__(self, engine: LogEngine) -> None:
        self._engine = engine
        self._asked = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def reply(self, command_id: bytes, chain: str | None = None) -> Reply | None:
        if not self._asked:
            self._asked = True
            raise UnreachableError("It cannot be reached.")
        return self._engine.reply(command_id, chain)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "data")
    yield ledger
    ledger.close()


def test_an_accepted_command_is_recorded_verbatim_and_answered(ledger: Ledger) -> None:
    before = ledger.engine.size("acme")
    asked = ledger.issue("k1", correlation=b"\x01" * 16, trace=b"\x02" * 16)
    ledger.submit(asked)
    assert ledger.sequencer().step() == 1
    reply = ledger.engine.reply(asked.command_id)
    assert reply is not None
    assert (reply.outcome, reply.chain, reply.first_seq) == (ACCEPTED, "acme", reply.last_seq)
    recorded = ledger.events("acme")[reply.first_seq or 0]
    record = decode_record(recorded.data, {schema.digest: schema.text for schema in map(event_schema, EVENTS)})
    assert record.command is not None
    assert record.command.envelope() == asked
    assert recorded.meta.cause == asked.command_id
    assert (recorded.meta.correlation, recorded.meta.trace) == (b"\x01" * 16, b"\x02" * 16)
    assert (recorded.meta.stream, recorded.meta.stream_seq) == (asked.stream, 0)
    assert before < recorded.seq
    ledger.verify()


def test_the_authoritys_first_command_opens_a_chain(ledger: Ledger) -> None:
    ledger.submitter.ensure_chain("beta")
    assert ledger.names("beta")[:5] == [
        "ChainOpened",
        "EpochOpened",
        "SchemaRegistered",
        "SchemaRegistered",
        "ProducerEnrolled",
    ]
    ledger.verify()


def test_every_schema_is_registered_once_and_before_its_first_use(ledger: Ledger) -> None:
    ledger.submit(ledger.issue(), ledger.issue("k1"), ledger.issue("k1"))
    ledger.sequencer().step()
    registered: list[bytes] = []
    for recorded in ledger.events("acme"):
        if isinstance(recorded.event, SchemaRegistered):
            registered.append(recorded.event.schema)
        assert recorded.meta.schema in {*registered, *fmt.BOOTSTRAP}
    assert len(registered) == len(set(registered))
    assert command_schema("IssueApiKey").digest in registered
    assert event_schema("CommandRejected").digest in registered


def test_a_rejection_stands_on_the_chain_with_its_reason(ledger: Ledger) -> None:
    late = ledger.issue(now=ledger.clock() - 10, ttl=1)
    ledger.submit(late)
    ledger.sequencer().step()
    reply = ledger.engine.reply(late.command_id)
    assert reply is not None
    assert (reply.outcome, reply.code) == (REJECTED, "expired")
    recorded = ledger.events("acme")[-1]
    assert recorded.event == CommandRejected(late.command_id, "IssueApiKey", late.stream, "expired", reply.detail)
    assert recorded.seq == reply.first_seq == reply.last_seq
    ledger.verify()


def signed_by_a_stranger(ledger: Ledger, envelope: Envelope) -> bytes:
    return STRANGER.sign([envelope.to_bytes()])[0].to_bytes()


def with_a_bent_signature(ledger: Ledger, envelope: Envelope) -> bytes:
    signed = ledger.authority.sign([envelope.to_bytes()])[0]
    return replace(signed, signature=bytes(64)).to_bytes()


def with_another_payload(ledger: Ledger, envelope: Envelope) -> bytes:
    signed = ledger.authority.sign([envelope.to_bytes()])[0]
    return replace(signed, payload=replace(envelope, stream="api-key/k2").to_bytes()).to_bytes()


def for_a_chain_that_is_not_there(ledger: Ledger, envelope: Envelope) -> bytes:
    return ledger.authority.sign([replace(envelope, chain="nowhere", tenant="nowhere").to_bytes()])[0].to_bytes()


def of_an_unknown_schema(ledger: Ledger, envelope: Envelope) -> bytes:
    return ledger.authority.sign([replace(envelope, schema=bytes(32)).to_bytes()])[0].to_bytes()


def with_a_body_that_is_none(ledger: Ledger, envelope: Envelope) -> bytes:
    return ledger.authority.sign([replace(envelope, body=b"\xff").to_bytes()])[0].to_bytes()


def by_an_enrolment_that_a_stranger_signed(ledger: Ledger, envelope: Envelope) -> bytes:
    enrol = EnrolProducer(STRANGER.key_id, STRANGER.public_key, "gateway", "stranger", None)
    stream = f"producer/{STRANGER.key_id.hex()}"
    asked = make_envelope(enrol, chain="mine", stream=stream, command_id=envelope.command_id, now=ledger.clock())
    return STRANGER.sign([asked.to_bytes()])[0].to_bytes()


def too_large_for_any_record(ledger: Ledger, envelope: Envelope) -> bytes:
    return ledger.authority.sign([replace(envelope, on_behalf_of="x" * 65_000).to_bytes()])[0].to_bytes()


REFUSALS = [
    (too_large_for_any_record, "malformed"),
    (signed_by_a_stranger, "unauthenticated"),
    (with_a_bent_signature, "unauthenticated"),
    (with_another_payload, "unauthenticated"),
    (for_a_chain_that_is_not_there, "unauthenticated"),
    (by_an_enrolment_that_a_stranger_signed, "unauthenticated"),
    (of_an_unknown_schema, "malformed"),
    (with_a_body_that_is_none, "malformed"),
]


@pytest.mark.parametrize(("make", "code"), REFUSALS, ids=[make.__name__ for make, _ in REFUSALS])
def test_what_is_malformed_or_not_authenticated_never_reaches_the_ledger(
    ledger: Ledger, make: object, code: str
) -> None:
    sizes = {chain: ledger.engine.size(chain) for chain in ledger.engine.chains()}
    asked = ledger.issue("k1")
    ledger.engine.submit([make(ledger, asked)])  # type: ignore[operator]
    assert ledger.sequencer().step() == 1
    reply = ledger.engine.reply(asked.command_id)
    assert reply is not None
    assert (reply.outcome, reply.code, reply.first_seq) == (REFUSED, code, None)
    assert {chain: ledger.engine.size(chain) for chain in ledger.engine.chains()} == sizes
    ledger.verify()


@pytest.mark.parametrize("garbage", [b"", b"\x00", b"not a command" * 99, b"\xff" * 70_000], ids=len)
def test_garbage_in_the_intake_is_dropped(ledger: Ledger, garbage: bytes) -> None:
    good = ledger.issue()
    ledger.engine.submit([garbage])
    ledger.submit(good)
    assert ledger.sequencer().step() == 2
    assert ledger.engine.reply(good.command_id) is not None
    assert list(ledger.engine.intake(0, 10)) == []
    ledger.verify()


def test_a_stranger_cannot_take_a_command_id_away_from_its_owner(ledger: Ledger) -> None:
    asked = ledger.issue("k1")
    sequencer = ledger.sequencer()
    ledger.engine.submit([signed_by_a_stranger(ledger, asked)])
    sequencer.step()
    ledger.submit(asked)
    sequencer.step()
    reply = ledger.engine.reply(asked.command_id)
    assert reply is not None
    assert reply.outcome == ACCEPTED


@pytest.mark.parametrize(("make", "code"), REFUSALS[:4], ids=[make.__name__ for make, _ in REFUSALS[:4]])
def test_a_refusal_in_the_same_batch_takes_no_answer_away(ledger: Ledger, make: object, code: str) -> None:
    asked = ledger.issue("k1")
    sequencer = ledger.sequencer()
    ledger.submit(asked)
    ledger.engine.submit([make(ledger, asked)])  # type: ignore[operator]
    assert sequencer.step() == 2
    reply = ledger.engine.reply(asked.command_id)
    assert reply is not None
    assert (reply.outcome, reply.code) == (ACCEPTED, ""), code


def test_a_repeated_command_is_answered_as_before_and_recorded_once(ledger: Ledger) -> None:
    asked = ledger.issue("k1")
    sequencer = ledger.sequencer()
    ledger.submit(asked, asked)
    sequencer.step()
    first, size = ledger.engine.reply(asked.command_id), ledger.engine.size("acme")
    ledger.submit(asked)
    sequencer.step()
    ledger.submit(asked)
    ledger.sequencer().step()  # A writer that started anew knows it as well.
    assert first is not None
    assert first.outcome == ACCEPTED
    assert ledger.engine.reply(asked.command_id) == first
    assert ledger.engine.size("acme") == size
    ledger.verify()


def test_equal_command_ids_on_two_chains_are_two_commands(ledger: Ledger) -> None:
    ledger.submitter.ensure_chain("beta")
    ours = ledger.issue("k1")
    theirs = ledger.issue("k1", chain="beta", command_id=ours.command_id)
    ledger.submit(theirs, ours)
    ledger.sequencer().step()
    replies = [ledger.engine.reply(ours.command_id, chain) for chain in ("acme", "beta")]
    assert [reply.outcome for reply in replies if reply] == [ACCEPTED, ACCEPTED]
    ledger.verify()


def test_a_batch_under_one_signature_is_decided_in_its_order(ledger: Ledger) -> None:
    asked = [ledger.issue(f"k{number}") for number in range(20)]
    ledger.submit(*asked)
    ledger.sequencer().step()
    replies = [ledger.engine.reply(envelope.command_id) for envelope in asked]
    places = [reply.first_seq for reply in replies if reply]
    assert places == sorted(set(places))  # type: ignore[type-var]
    assert len(places) == len(asked)
    ledger.verify()


def test_a_micro_batch_is_bounded(ledger: Ledger) -> None:
    ledger.submit(*[ledger.issue() for _ in range(5)])
    sequencer = ledger.sequencer(Limits(batch=2))
    assert [sequencer.step() for _ in range(4)] == [2, 2, 1, 0]


def test_a_new_writer_opens_its_epoch_with_its_first_record_and_not_before(ledger: Ledger) -> None:
    size = ledger.engine.size("acme")
    ledger.sequencer().open()
    writer = ledger.sequencer()
    writer.open()
    assert ledger.engine.size("acme") == size
    ledger.submit(ledger.issue(), ledger.issue())
    writer.step()
    new = ledger.events("acme")[size:]
    assert isinstance(new[0].event, EpochOpened)
    assert new[0].event.epoch == ledger.engine.epoch() == new[0].meta.epoch
    assert [type(recorded.event) for recorded in new].count(EpochOpened) == 1
    ledger.verify()


def test_a_second_writer_fences_the_first(ledger: Ledger) -> None:
    first, second = ledger.sequencer(), ledger.sequencer()
    first.open()
    second.open()
    asked = ledger.issue()
    ledger.submit(asked)
    with pytest.raises(FencedError):
        first.step()
    assert ledger.engine.reply(asked.command_id) is None
    assert second.step() == 1
    assert ledger.engine.reply(asked.command_id) is not None
    ledger.verify()


def test_a_writer_may_take_its_role_back_only_by_folding_anew(ledger: Ledger) -> None:
    first, second = ledger.sequencer(), ledger.sequencer()
    first.open()
    ledger.submit(ledger.issue("k1"))
    second.open()
    second.step()
    first.reopen()
    ledger.submit(ledger.issue("k1"))
    first.step()
    assert ledger.names("acme").count("ApiKeyIssued") == 1
    ledger.verify()


def test_whatever_goes_wrong_with_one_entry_leaves_no_trace_of_it(ledger: Ledger) -> None:
    poison, good = ledger.issue(), ledger.issue()

    def reply_of(command_id: bytes, _chain: str) -> None:
        if command_id == poison.command_id and not batch._quarantined:
            raise ZeroDivisionError

    batch = Batch(
        Writer("test", ledger.engine.open_epoch()),
        Founder(ledger.installation.origin, ledger.authority.public_key),
        {"acme": recover(ledger.engine, "acme")[0]}.__getitem__,
        reply_of,
        lambda last: max(last, ledger.clock()),
    )
    ledger.submit(poison, good)
    for entry in ledger.engine.intake(0, 10):
        batch.take(entry)
    ledger.engine.commit(batch.commit())
    assert [entry.reason for entry in ledger.engine.quarantined()] == ["undecidable"]
    assert ledger.names("acme").count("ApiKeyIssued") == 1
    ledger.verify()


def test_an_engine_that_cannot_be_asked_makes_no_entry_a_dead_letter(ledger: Ledger) -> None:
    asked = ledger.issue()
    sequencer = Sequencer.of(ledger.installation, Away(ledger.engine))
    ledger.submit(asked)
    sequencer.step()
    told, position = ledger.engine.reply(asked.command_id), ledger.engine.intake_position()
    ledger.submit(asked)
    with pytest.raises(UnreachableError):
        sequencer.step()
    assert ledger.engine.intake_position() == position
    assert sequencer.step() == 1
    assert list(ledger.engine.quarantined()) == []
    assert ledger.engine.reply(asked.command_id) == told
    ledger.verify()


@pytest.mark.parametrize("length", [50_000, 500_000], ids=["sized", "oversized"])
@pytest.mark.parametrize("where", ["chain", "command_type"])
def test_what_a_stranger_writes_at_length_is_not_told_back_at_length(ledger: Ledger, where: str, length: int) -> None:
    entries = []
    for number in range(40):
        given = replace(ledger.issue(), **{where: "x" * length}, command_id=number.to_bytes(16, "big"))
        entries += [command.to_bytes() for command in STRANGER.sign([given.to_bytes()])]
    ledger.engine.submit(entries)
    batch = an_empty_batch(ledger)
    for entry in ledger.engine.intake(0, len(entries)):
        batch.take(entry)
    assert max(map(len, messages.encode_commit(batch.commit()))) < KAFKA_TAKES
    ledger.engine.commit(batch.commit())
    assert (list(ledger.engine.quarantined()), ledger.engine.waiting()) == ([], 0)


def an_empty_batch(ledger: Ledger) -> Batch:
    return Batch(
        Writer("test", ledger.engine.open_epoch()),
        Founder(ledger.installation.origin, ledger.authority.public_key),
        lambda chain: recover(ledger.engine, chain)[0],
        lambda _command_id, _chain: None,
        lambda last: max(last, ledger.clock()),
    )


def test_a_draft_that_is_dropped_changes_nothing(ledger: Ledger) -> None:
    fold, _ = recover(ledger.engine, "acme")
    head, streams = fold.head, dict(fold.streams)
    batch = Batch(
        Writer("test", 99),
        Founder(ledger.installation.origin, ledger.authority.public_key),
        lambda chain: fold if chain == "acme" else ChainFold(chain),
        lambda *_: None,
        lambda last: max(last, ledger.clock()),
    )
    signed = ledger.authority.sign([ledger.issue().to_bytes()])[0]
    batch.take(IntakeEntry(1, signed.to_bytes()))
    assert batch.commit().appends[0].expected_size == head.size
    assert (fold.head, dict(fold.streams)) == (head, streams)


def test_a_command_id_is_free_again_after_a_refusal_in_the_same_batch(ledger: Ledger) -> None:
    asked = ledger.issue(command_id=uuid.uuid4().bytes)
    ledger.engine.submit([with_a_bent_signature(ledger, asked)])
    ledger.submit(asked)
    ledger.engine.submit([with_a_bent_signature(ledger, asked)])
    ledger.sequencer().step()
    reply = ledger.engine.reply(asked.command_id)
    assert reply is not None
    assert reply.outcome == ACCEPTED
