"""Re-running every decision of a chain from its records alone: the level of audit above bytes and signatures.

Each record that carries a command is judged again by the code that the sequencer runs, on the states folded from the
records before it and at the time that it says it was recorded; what should then stand on the chain is encoded and
compared byte for byte. A ledger that was re-hashed and re-signed after a change of heart does not survive this.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tensorguard.ledger import format as fmt
from tensorguard.ledger.errors import LedgerError, MalformedRecordError
from tensorguard.ledger.record import Meta, Record, decode_record, encode_record, event_id
from tensorguard.ledger.report import Finding
from tensorguard.ledger.schema import check_schema

from producers.deciders import engine, registry
from producers.deciders.chain import ChainState
from producers.deciders.context import Rejected
from schemas import codec
from schemas.events import CommandRejected, SchemaRegistered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tensorguard.ledger.envelope import Envelope, SignedCommand

    from schemas.base import Event

MAX_FINDINGS = 32
OWN_EVENTS = frozenset(name for name, _ in fmt.BOOTSTRAP.values())
"""The sequencer's own events: nobody asks for them."""


def replay(chain: str, records: Iterable[bytes]) -> list[Finding]:
    """Everything on a chain that its commands do not lead to, and everything that they should have led to.

    Findings have the codes ``unfounded_acceptance``, ``unfounded_rejection``, ``altered_outcome``, ``missing_event``,
    ``extra_event``, ``event_without_command``, ``repeated_command``, ``unauthenticated_command``, and those of ledger
    errors. The replay ends at a record that this build cannot read: what follows has no meaning without it.
    """
    chain_replay = _Replay(chain)
    for data in records:
        if not chain_replay.add(data):
            break
    chain_replay.end()
    return chain_replay.findings[:MAX_FINDINGS]


@dataclass(frozen=True, slots=True)
class _Decided:
    """The command whose events are being read, and when it was decided."""

    envelope: Envelope
    recorded_at: int


class _Replay:
    """The folded chain, and the events that the last command has yet to bring."""

    def __init__(self, chain: str) -> None:
        self.findings: list[Finding] = []
        self._chain = chain
        self._seq = 0
        self._schemas: dict[bytes, str] = {}
        self._states: dict[str, object | None] = {}
        self._versions: Counter[str] = Counter()
        self._seen: set[bytes] = set()
        self._decided: _Decided | None = None
        self._expected: deque[tuple[str, Event]] = deque()
        self._index = 0

    def add(self, data: bytes) -> bool:
        """Check and fold one more record; false if it cannot be read."""
        try:
            record = decode_record(data, self._schemas)
            event = _typed(record)
        except LedgerError as error:
            self._report(error.code, error.detail)
            return False
        if record.event in OWN_EVENTS:
            self._check_own(record)
        elif record.command is None:
            self._follow(record, data)
        else:
            self._begin(record, record.command, data)
        self._fold(record, event)
        return True

    def end(self) -> None:
        """Report what the last command should still have led to."""
        for _, event in self._expected:
            self._report("missing_event", f"The command before should also have led to {type(event).__name__}.")
        self._expected.clear()

    def _check_own(self, record: Record) -> None:
        if record.command is not None or record.meta.cause is not None or record.meta.stream != registry.CHAIN_STREAM:
            self._report("event_without_command", f"{record.event} is the sequencer's own, and no command's.")

    def _begin(self, record: Record, signed: SignedCommand, data: bytes) -> None:
        self.end()
        self._decided, self._index = None, 0
        try:
            presented = engine.present_signed(signed)
        except LedgerError as error:
            self._report(error.code, error.detail)
            return
        self._decided = _Decided(presented.envelope, record.meta.recorded_at)
        if presented.envelope.command_id in self._seen:
            self._report("repeated_command", "The command was decided before.")
            return
        self._seen.add(presented.envelope.command_id)
        verdict = self._judge(presented, record.meta)
        if verdict is not None and self._agrees(record, verdict):
            self._expect(presented.envelope, verdict)
            self._compare(record, signed, data)

    def _judge(self, presented: engine.Presented, meta: Meta) -> engine.Verdict | None:
        opened = self._states.get(registry.CHAIN_STREAM)
        authority_key = opened.authority_key if isinstance(opened, ChainState) else b""
        identity = engine.authenticate(presented, self._chain, authority_key, self._states.get)
        if identity is None:
            self._report("unauthenticated_command", "The command is not signed for this chain by a key that may sign.")
            return None
        return engine.judge(
            presented,
            identity,
            chain=self._chain,
            now=meta.recorded_at,
            find=self._states.get,
            version_of=self._versions.__getitem__,
        )

    def _agrees(self, record: Record, verdict: engine.Verdict) -> bool:
        rejected = record.event == CommandRejected.__name__
        if isinstance(verdict, Rejected) and not rejected:
            self._report("unfounded_acceptance", f"The command must be rejected as {verdict.code}. {verdict.detail}")
        elif isinstance(verdict, engine.Accepted) and rejected:
            self._report("unfounded_rejection", "The command was rejected, and must be accepted.")
        return isinstance(verdict, Rejected) == rejected

    def _expect(self, envelope: Envelope, verdict: engine.Verdict) -> None:
        if isinstance(verdict, Rejected):
            self._expected.append((registry.REJECTIONS_STREAM, engine.rejection_event(envelope, verdict)))
        else:
            self._expected.extend((verdict.stream, event) for event in verdict.events)

    def _follow(self, record: Record, data: bytes) -> None:
        if self._decided is None or record.meta.cause != self._decided.envelope.command_id:
            self._report("event_without_command", f"No command led to this {record.event}.")
        elif not self._expected:
            self._report("extra_event", f"The command before does not lead to this {record.event}.")
        else:
            self._index += 1
            self._compare(record, None, data)

    def _compare(self, record: Record, signed: SignedCommand | None, data: bytes) -> None:
        stream, event = self._expected.popleft()
        if self._encoded(record.meta, signed, stream, event) != data:
            self._report("altered_outcome", f"{record.event} is not what its command leads to. {_told(record, event)}")

    def _encoded(self, meta: Meta, signed: SignedCommand | None, stream: str, event: Event) -> bytes:
        """The record as it must be, at the place and under the writer's epoch that it claims; empty if it cannot be."""
        if self._decided is None:
            return b""
        name, envelope = type(event).__name__, self._decided.envelope
        schema = codec.event_schema(name)
        must = replace(
            meta,
            chain=self._chain,
            seq=self._seq,
            schema=schema.digest,
            event_id=event_id(envelope.command_id, name, self._index),
            stream=stream,
            stream_seq=self._versions[stream],
            recorded_at=self._decided.recorded_at,
            cause=envelope.command_id,
            correlation=envelope.correlation,
            trace=envelope.trace,
        )
        try:
            return encode_record(schema.text, must, signed, codec.to_dict(event))
        except LedgerError:
            return b""

    def _fold(self, record: Record, event: Event) -> None:
        stream = record.meta.stream
        self._states[stream] = registry.evolve(self._states.get(stream), stream, event)
        self._versions[stream] += 1
        self._seq += 1
        if isinstance(event, SchemaRegistered) and event.kind == "event":
            self._register(event)

    def _register(self, registered: SchemaRegistered) -> None:
        try:
            check_schema(registered.kind, registered.name, registered.text)
        except LedgerError as error:
            self._report(error.code, error.detail)
            return
        if fmt.schema_digest(registered.text) == registered.schema:
            self._schemas[registered.schema] = registered.text

    def _report(self, code: str, detail: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(code, self._chain, self._seq, detail))


def _typed(record: Record) -> Event:
    if record.event not in codec.EVENTS or codec.event_schema(record.event).digest != record.meta.schema:
        raise MalformedRecordError(
            f"{record.event} is written by a schema that this build does not decide by.",
            next_step="Run the audit with the release that wrote this ledger.",
        )
    return codec.decode_event(record.event, record.body)


def _told(record: Record, event: Event) -> str:
    if record.event != type(event).__name__:
        return f"It leads to {type(event).__name__}."
    must = codec.to_dict(event)
    wrong = sorted(name for name, value in record.body.items() if value != must.get(name))
    return f"These fields differ: {', '.join(wrong)}." if wrong else "Its ids, place or time differ."
