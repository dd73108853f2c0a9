"""A dishonest writer with the signer on its side: every hash and checkpoint is right, and one rule is broken.

Each row breaks one rule on a good ledger and names the code that must be found; the second verifier must refuse it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tensorguard.ledger import record as records
from tensorguard.ledger.envelope import key_id_of, sign_batch
from tensorguard.ledger.format import schema_digest
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.verify import verify_export

from schemas import codec
from schemas import commands as c
from schemas import events as e
from tests.ledger import tiny_verifier
from tests.ledger.build import Chain, Ledger, ed25519, good_ledger, raw, rotate_signer, schema_texts, seed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tensorguard.ledger.record import Record

    from schemas.base import Command, Event

tiny_problems: Any = tiny_verifier.problems


def rewrite(chain: Chain, event: str, edit: Callable[[Record], Record | None], nth: int = 0) -> None:
    """Edit the n-th record of an event (None drops it) and link everything behind it anew."""
    texts, seen = schema_texts(), 0
    old, chain.records, chain.leaves = chain.records, [], []
    for data in old:
        record: Record | None = records.decode_record(data, texts)
        assert record is not None
        if record.event == event:
            record = edit(record) if seen == nth else record
            seen += 1
        if record is not None:
            append(chain, record)
    assert seen > nth, f"no {event} number {nth}"


def append(chain: Chain, record: Record) -> None:
    meta = replace(record.meta, prev_hash=chain.leaves[-1] if chain.leaves else bytes(32))
    data = records.encode_record(schema_texts()[meta.schema], meta, record.command, record.body)
    chain.records.append(data)
    chain.leaves.append(leaf_hash(data))


def meta(event: str, nth: int = 0, **changes: Any) -> Callable[[Ledger], None]:
    """Change fields of a record's meta on the tenant's chain; a callable gets the old value."""

    def edit(record: Record) -> Record:
        values = {
            name: value(getattr(record.meta, name)) if callable(value) else value for name, value in changes.items()
        }
        return replace(record, meta=replace(record.meta, **values))

    return lambda ledger: rewrite(ledger.chains["acme"], event, edit, nth)


def body(event: str, nth: int = 0, chain: str = "acme", **changes: Any) -> Callable[[Ledger], None]:
    """Change fields of a record's body."""
    return lambda ledger: rewrite(
        ledger.chains[chain], event, lambda record: replace(record, body={**record.body, **changes}), nth
    )


def command(event: str, nth: int = 0, **changes: Any) -> Callable[[Ledger], None]:
    """Change fields of the signed command in a record."""

    def edit(record: Record) -> Record:
        assert record.command is not None
        return replace(record, command=replace(record.command, **changes))

    return lambda ledger: rewrite(ledger.chains["acme"], event, edit, nth)


def drop(event: str, nth: int = 0) -> Callable[[Ledger], None]:
    return lambda ledger: rewrite(ledger.chains["acme"], event, lambda _: None, nth)


def without_command(event: str, nth: int = 0) -> Callable[[Ledger], None]:
    return lambda ledger: rewrite(ledger.chains["acme"], event, lambda record: replace(record, command=None), nth)


def sealed(role: str, asked: Command, *events: Event, stream: str, **envelope: Any) -> Callable[[Ledger], None]:
    """Append events that nobody decided, with a real signature under the command."""

    def run(ledger: Ledger) -> None:
        chain = ledger.chains["acme"]
        (signed,) = ledger.sign(role, [chain.envelope(asked, **envelope)])
        chain.seal(signed, stream, events)

    return run


def at_its_last_moment(ledger: Ledger) -> None:
    sealed("gateway", CLOSE, CLOSED, stream="run/run-1", expires_at=ledger.chains["acme"].now)(ledger)


def padded_payload(ledger: Ledger) -> None:
    chain, key = ledger.chains["acme"], ledger.key("gateway")
    payload = chain.envelope(CLOSE).to_bytes().replace(b"\x08acme", b"\x88\x00acme", 1)
    (signed,) = sign_batch([payload], raw(key), key.sign)
    chain.seal(signed, "run/run-1", (CLOSED,))


def decide_again(ledger: Ledger) -> None:
    chain = ledger.chains["acme"]
    again = next(
        record
        for record in (records.decode_record(data, schema_texts()) for data in chain.records)
        if record.event == "RunCreated"
    )
    assert again.command is not None
    chain.seal(again.command, "run/run-1", (codec.decode_event("RunCreated", again.body),))


def second_opening(ledger: Ledger) -> None:
    chain = ledger.chains["acme"]
    chain._seal_own(e.ChainOpened(1, "acme", f"{ledger.origin}/acme", 0, raw(ledger.authority)))


def step_back(ledger: Ledger) -> None:
    chain = ledger.chains["acme"]
    chain.epoch = 1
    chain.submit("gateway", c.CloseRun("run-1"))


def unopened_epoch(ledger: Ledger) -> None:
    chain = ledger.chains["acme"]
    chain.epoch = 9
    chain.submit("gateway", c.CloseRun("run-1"))


def epoch_of_another_number(ledger: Ledger) -> None:
    chain = ledger.chains["acme"]
    chain.epoch = 9
    chain._seal_own(e.EpochOpened(10, "nobody"))


def register(kind: str, name: str, text: str, digest: bytes | None = None) -> Callable[[Ledger], None]:
    return lambda ledger: ledger.chains["acme"]._seal_own(
        e.SchemaRegistered(kind, name, digest or schema_digest(text), text)
    )


def forced_rotation(ledger: Ledger) -> None:
    chain, key = ledger.chains["platform"], ledger.signer_keys("signer-2")
    asked = c.RotateSignerKey(seed("nobody"), key.ed25519, key.mldsa44)
    (signed,) = ledger.sign("authority", [chain.envelope(asked)])
    chain.seal(signed, "signer", (e.SignerKeyRotated(seed("nobody"), key.ed25519, key.mldsa44),))


def other_published_signer(ledger: Ledger) -> None:
    ledger.signers = ["signer-2"]


def other_published_artifact_key(ledger: Ledger) -> None:
    ledger.artifact = "another"


def epoch_opened_twice(ledger: Ledger) -> None:
    chain = ledger.chains["acme"]
    chain._seal_own(e.EpochOpened(chain.epoch, "another writer"))


def moved(*behind: tuple[str, Command, str, Event]) -> Callable[[Ledger], None]:
    """Move the tenant's chain, and append what nobody decided behind the move."""

    def run(ledger: Ledger) -> None:
        ledger.chains["acme"].submit("authority", c.MoveLedger("kafka-1"))
        ledger.chains["acme"].take_over()
        for role, asked, stream, event in behind:
            sealed(role, asked, event, stream=stream)(ledger)

    return run


SCHEMA_OF_RUN = codec.event_schema("RunClosed").text
STRANGER = raw(ed25519("stranger"))
ENROL_STRANGER = c.EnrolProducer(key_id_of(STRANGER), STRANGER, "worker", "stranger", None)
STRANGER_ENROLLED = e.ProducerEnrolled(key_id_of(STRANGER), STRANGER, "worker", "stranger", None)
STRANGERS_STREAM = f"producer/{key_id_of(STRANGER).hex()}"
KEYS = Ledger().signer_keys("signer-2")
CLOSE, CLOSED = c.CloseRun("run-1"), e.RunClosed("run-1")
REJECTED = e.CommandRejected(bytes(16), "CloseRun", "run/run-1", "run_closed", "The run takes no more operations.")

BROKEN_RULES: dict[str, tuple[Callable[[Ledger], None], str]] = {
    "a number left out": (meta("RunClosed", seq=lambda seq: seq + 1), "wrong_position"),
    "a negative number": (meta("RunClosed", seq=-1), "wrong_position"),
    "another chain's name": (meta("RunClosed", chain="acme-2"), "wrong_position"),
    "a record dropped": (drop("StepApplied"), "wrong_position"),
    "a stream's number left out": (meta("RunClosed", stream_seq=lambda seq: seq + 1), "wrong_stream_seq"),
    "an earlier time": (meta("RunClosed", recorded_at=lambda time: time - 10**9), "clock_backwards"),
    "a negative time": (meta("ChainOpened", recorded_at=-1), "clock_backwards"),
    "an epoch that stepped back": (step_back, "wrong_epoch"),
    "an epoch that nobody opened": (unopened_epoch, "wrong_epoch"),
    "an epoch opened under another number": (epoch_of_another_number, "wrong_epoch"),
    "an epoch opened twice": (epoch_opened_twice, "wrong_epoch"),
    "a negative epoch": (meta("ChainOpened", epoch=-1), "wrong_epoch"),
    "no opening": (drop("ChainOpened"), "chain_not_opened"),
    "a second opening": (second_opening, "chain_not_opened"),
    "another authority": (body("ChainOpened", authority_key=STRANGER), "wrong_opening"),
    "another origin": (body("ChainOpened", origin="tensorguard.local/test"), "wrong_opening"),
    "another format": (body("ChainOpened", format_version=2), "wrong_opening"),
    "an event behind a move": (moved(("gateway", CLOSE, "run/run-1", CLOSED)), "wrong_move"),
    "a second move before the chain goes on": (
        moved(("authority", c.MoveLedger("kafka-2"), "ledger", e.LedgerMoved("kafka-2"))),
        "wrong_move",
    ),
    "a chain that goes on elsewhere than it was moved to": (
        moved(("authority", c.ContinueLedger("kafka-2"), "ledger", e.LedgerContinued("kafka-2"))),
        "wrong_move",
    ),
    "a chain that goes on twice": (
        moved(*2 * [("authority", c.ContinueLedger("kafka-1"), "ledger", e.LedgerContinued("kafka-1"))]),
        "wrong_move",
    ),
    "a chain that goes on and was never moved": (
        sealed("authority", c.ContinueLedger("kafka-1"), e.LedgerContinued("kafka-1"), stream="ledger"),
        "wrong_move",
    ),
    "a move that the authority did not ask for": (
        sealed("gateway", c.MoveLedger("kafka-1"), e.LedgerMoved("kafka-1"), stream="ledger"),
        "not_by_authority",
    ),
    "an event without its command": (without_command("RunCreated"), "wrong_cause"),
    "an event after a rejection": (without_command("RunClosed"), "unsigned_event"),
    "another cause": (meta("RunClosed", cause=bytes(16)), "wrong_cause"),
    "no cause": (meta("RunClosed", cause=None), "wrong_cause"),
    "a cause for the writer's own": (meta("EpochOpened", cause=bytes(16)), "wrong_cause"),
    "the writer's own in another stream": (meta("EpochOpened", 1, stream="run/run-1"), "wrong_cause"),
    "another correlation": (meta("RunCreated", correlation=None), "wrong_cause"),
    "another trace": (meta("RunCreated", trace=bytes(16)), "wrong_cause"),
    "another event id": (meta("RunClosed", event_id=bytes(16)), "wrong_event_id"),
    "another event id of the writer's own": (meta("EpochOpened", event_id=bytes(16)), "wrong_event_id"),
    "a command decided twice": (decide_again, "duplicate_command"),
    "a signature of zeroes": (command("RunClosed", signature=bytes(64)), "signature_invalid"),
    "a short signature": (command("RunClosed", signature=b""), "signature_invalid"),
    "another batch size": (command("RunClosed", batch_size=2), "proof_invalid"),
    "a position outside of the batch": (command("RunClosed", batch_index=-1), "proof_invalid"),
    "a path of a lone command": (command("RunClosed", batch_path=(bytes(32),)), "proof_invalid"),
    "a payload that is none": (command("RunClosed", payload=b"x"), "malformed_record"),
    "a stranger's command": (sealed("stranger", CLOSE, CLOSED, stream="run/run-1"), "unknown_producer"),
    "a revoked producer's command": (sealed("packager", CLOSE, CLOSED, stream="run/run-1"), "revoked_producer"),
    "a command for another stream": (sealed("gateway", CLOSE, CLOSED, stream="run/run-2"), "wrong_envelope"),
    "a command for another chain": (
        sealed("gateway", CLOSE, CLOSED, stream="run/run-1", chain="acme-2"),
        "wrong_envelope",
    ),
    "a command for another tenant": (
        sealed("gateway", CLOSE, CLOSED, stream="run/run-1", tenant="acme-2"),
        "wrong_envelope",
    ),
    "an expired command": (
        sealed("gateway", CLOSE, CLOSED, stream="run/run-1", expires_at=0),
        "expired_command",
    ),
    "a command at the moment of its expiry": (at_its_last_moment, "expired_command"),
    "a command of another type than its body": (
        sealed("gateway", CLOSE, CLOSED, stream="run/run-1", command_type="CreateRun"),
        "unregistered_schema",
    ),
    "a command by a schema that is not registered": (
        sealed("gateway", CLOSE, CLOSED, stream="run/run-1", schema=bytes(32)),
        "unregistered_schema",
    ),
    "a body that does not fit": (
        sealed("gateway", CLOSE, CLOSED, stream="run/run-1", body=b"\xff"),
        "malformed_record",
    ),
    "a payload in another encoding": (padded_payload, "malformed_record"),
    "a body in another encoding": (
        sealed("gateway", CLOSE, CLOSED, stream="run/run-1", body=b"\x8a\x00run-1"),
        "malformed_record",
    ),
    "a rejection of another command": (
        sealed("gateway", CLOSE, REJECTED, stream="rejections"),
        "contradicts_command",
    ),
    "a rejection in another stream": (
        sealed("gateway", CLOSE, replace(REJECTED, command_id=seed("id")[:16]), stream="x", command_id=seed("id")[:16]),
        "wrong_envelope",
    ),
    "another tenant's command, rejected for another reason": (
        sealed(
            "gateway",
            CLOSE,
            replace(REJECTED, command_id=seed("id")[:16]),
            stream="rejections",
            command_id=seed("id")[:16],
            tenant="acme-2",
        ),
        "wrong_envelope",
    ),
    "a key enrolled by a gateway": (
        sealed("gateway", ENROL_STRANGER, STRANGER_ENROLLED, stream=STRANGERS_STREAM),
        "not_by_authority",
    ),
    "a key enrolled on another command": (
        sealed("authority", CLOSE, STRANGER_ENROLLED, stream="run/run-1"),
        "contradicts_command",
    ),
    "another key enrolled than asked for": (body("ProducerEnrolled", public_key=STRANGER), "contradicts_command"),
    "a key enrolled beside another event": (
        sealed("gateway", CLOSE, CLOSED, STRANGER_ENROLLED, stream="run/run-1"),
        "unsigned_event",
    ),
    "a key enrolled under another id": (
        sealed(
            "authority",
            replace(ENROL_STRANGER, key_id=bytes(32)),
            replace(STRANGER_ENROLLED, key_id=bytes(32)),
            stream=f"producer/{bytes(32).hex()}",
        ),
        "wrong_key_id",
    ),
    "an event before its schema": (drop("SchemaRegistered", 1), "malformed_record"),
    "a command before its schema": (drop("SchemaRegistered", 0), "unregistered_schema"),
    "a schema under another digest": (register("event", "RunClosed", SCHEMA_OF_RUN, bytes(32)), "bad_schema"),
    "a schema twice": (register("event", "RunClosed", SCHEMA_OF_RUN), "bad_schema"),
    "a fixed schema": (
        register("event", "EpochOpened", codec.event_schema("EpochOpened").text),
        "bad_schema",
    ),
    "a schema of another name": (
        register("command", "RunClosed", codec.command_schema("SubmitLoadState").text),
        "malformed_record",
    ),
    "a schema that is none": (register("command", "X", "{}"), "malformed_record"),
    "signer keys on a tenant's chain": (
        sealed(
            "authority",
            c.PublishSignerKey(KEYS.ed25519, KEYS.mldsa44),
            e.SignerKeyPublished(KEYS.ed25519, KEYS.mldsa44),
            stream="signer",
        ),
        "misplaced_key",
    ),
    "a rotation from another key": (forced_rotation, "wrong_rotation"),
    "a signer that was never published": (other_published_signer, "trust_root_disagrees"),
    "an artifact key that was never published": (other_published_artifact_key, "trust_root_disagrees"),
}


@pytest.mark.parametrize(("break_it", "code"), BROKEN_RULES.values(), ids=BROKEN_RULES.keys())
def test_a_broken_rule_is_found(tmp_path: Path, break_it: Callable[[Ledger], None], code: str) -> None:
    ledger = good_ledger()
    break_it(ledger)
    ledger.publish()
    export = ledger.write(tmp_path / "export")
    found = {finding.code for finding in verify_export(export).all_findings}
    assert code in found
    assert tiny_problems(export)


def test_a_record_in_another_encoding_is_found(tmp_path: Path) -> None:
    ledger = good_ledger()
    chain = ledger.chains["acme"]
    padded = chain.records[-1]
    chain.records[-1] = padded.replace(b"\x08acme", b"\x88\x00acme", 1)
    chain.leaves[-1] = leaf_hash(chain.records[-1])
    assert len(chain.records[-1]) == len(padded) + 1
    ledger.publish()
    export = ledger.write(tmp_path / "export")
    assert {finding.code for finding in verify_export(export).all_findings} == {"malformed_record"}
    assert tiny_problems(export)


def test_a_good_ledger_breaks_no_rule(tmp_path: Path) -> None:
    ledger = good_ledger()
    rewrite(ledger.chains["acme"], "RunClosed", lambda record: record)
    rotate_signer(ledger, "signer-2")
    ledger.publish()
    export = ledger.write(tmp_path / "export")
    assert verify_export(export).verified
    assert not tiny_problems(export)


def test_a_chain_that_was_moved_and_goes_on_breaks_no_rule(tmp_path: Path) -> None:
    ledger = good_ledger()
    moved(("authority", c.ContinueLedger("kafka-1"), "ledger", e.LedgerContinued("kafka-1")))(ledger)
    ledger.chains["acme"].submit("authority", c.MoveLedger("home"))
    ledger.publish()
    export = ledger.write(tmp_path / "export")
    assert verify_export(export).verified
    assert not tiny_problems(export)
