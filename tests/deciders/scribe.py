"""A chain in memory, written as a sequencer writes it: real signatures, real decisions, real records.

``Scribe`` decides and remembers what it wrote as entries; ``seal`` gives any list of entries the places, ids and hashes
that they would have on a chain, so a test can change history and still have it consistent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tensorguard.ledger.envelope import Envelope, SignedCommand, key_id_of, sign_batch
from tensorguard.ledger.merkle import leaf_hash
from tensorguard.ledger.record import GENESIS_PREV_HASH, Meta, encode_record, event_id, position_cause

from producers.deciders import engine, registry
from producers.deciders.context import Rejected
from schemas import codec
from schemas.base import Command, Event
from schemas.commands import EnrolProducer
from schemas.events import ChainOpened, EpochOpened, SchemaRegistered
from tests.deciders.examples import NOW, make

HOUR = 3600 * 10**6


@dataclass(frozen=True)
class Entry:
    """One record's content; its place, ids and hashes come with sealing. ``caused`` is the command that led to it."""

    stream: str
    event: Event
    recorded_at: int
    signed: SignedCommand | None = None
    caused: SignedCommand | None = None


@cache
def key_of(role: str) -> Ed25519PrivateKey:
    """A role's key, the same in every test."""
    return Ed25519PrivateKey.from_private_bytes(sha256(role.encode()).digest())


def public_of(role: str) -> bytes:
    return key_of(role).public_key().public_bytes_raw()


def sign(envelope: Envelope, role: str) -> SignedCommand:
    return sign_batch([envelope.to_bytes()], public_of(role), key_of(role).sign)[0]


class Scribe:
    """A chain with its authority and one enrolled producer per role."""

    def __init__(self, chain: str = "acme", roles: Sequence[str] = ("gateway", "dispatcher", "worker")) -> None:
        self.chain = chain
        self.now = NOW
        self.entries: list[Entry] = []
        self._states: dict[str, object | None] = {}
        self._versions: Counter[str] = Counter()
        self._sent = 0
        self._own(ChainOpened(1, chain, f"tensorguard.local/test/{chain}", 0, public_of("authority")))
        self._own(EpochOpened(1, "test"))
        for role in roles:
            public = public_of(role)
            enrol = make(EnrolProducer, role=role, public_key=public, key_id=key_id_of(public))
            assert isinstance(self.send(enrol, "authority"), engine.Accepted)

    def envelope(self, command: Command, **given: Any) -> Envelope:
        """The envelope that a correct producer would sign now, except as given."""
        self._sent += 1
        name = type(command).__name__
        correct = Envelope(
            chain=self.chain,
            tenant=self.chain,
            stream=registry.stream_of(command),
            expected_version=None,
            command_id=sha256(b"%d" % self._sent).digest()[:16],
            command_type=name,
            schema=codec.command_schema(name).digest,
            issued_at=self.now,
            expires_at=self.now + HOUR,
            on_behalf_of=None,
            correlation=None,
            trace=None,
            body=codec.encode_command(command),
        )
        return replace(correct, **given)

    def send(self, command: Command, role: str, **given: Any) -> engine.Verdict | None:
        """Sign a command, decide it and write what follows; None if it was refused."""
        return self.take(sign(self.envelope(command, **given), role))

    def take(self, signed: SignedCommand) -> engine.Verdict | None:
        """Decide a signed command and write what follows."""
        presented = engine.present(signed.to_bytes())
        find = self._states.get
        identity = engine.authenticate(presented, self.chain, public_of("authority"), find)
        if identity is None:
            return None
        self.now += 1
        verdict = engine.judge(
            presented, identity, chain=self.chain, now=self.now, find=find, version_of=self._versions.__getitem__
        )
        if isinstance(verdict, Rejected):
            self._write([(registry.REJECTIONS_STREAM, engine.rejection_event(presented.envelope, verdict))], signed)
        else:
            self._write([(verdict.stream, event) for event in verdict.events], signed)
        return verdict

    def state(self, stream: str) -> object | None:
        return self._states.get(stream)

    def records(self) -> list[bytes]:
        """The chain's bytes."""
        return seal(self.chain, self.entries)

    def _own(self, event: Event) -> None:
        self._append(Entry(registry.CHAIN_STREAM, event, self.now))

    def _write(self, events: Sequence[tuple[str, Event]], signed: SignedCommand) -> None:
        self._register(codec.command_schema(signed.envelope().command_type))
        for _, event in events:
            self._register(codec.event_schema(type(event).__name__))
        for index, (stream, event) in enumerate(events):
            self._append(Entry(stream, event, self.now, None if index else signed, signed))

    def _register(self, schema: codec.WrittenSchema) -> None:
        opened = self._states[registry.CHAIN_STREAM]
        if schema.digest not in opened.schemas:  # type: ignore[union-attr]
            self._own(SchemaRegistered(schema.kind, schema.name, schema.digest, schema.text))

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._versions[entry.stream] += 1
        self._states[entry.stream] = registry.evolve(self._states.get(entry.stream), entry.stream, entry.event)


def seal(chain: str, entries: Sequence[Entry]) -> list[bytes]:
    """The records of a chain with this content: dense places, derived ids, linked hashes."""
    records: list[bytes] = []
    versions: Counter[str] = Counter()
    index = 0
    for seq, entry in enumerate(entries):
        if entry.caused is not None:
            index = 0 if entry.signed is not None else index + 1
        prev_hash = leaf_hash(records[-1]) if records else GENESIS_PREV_HASH
        records.append(_record(chain, seq, entry, versions[entry.stream], prev_hash, index))
        versions[entry.stream] += 1
    return records


def _record(chain: str, seq: int, entry: Entry, version: int, prev_hash: bytes, index: int) -> bytes:
    name = type(entry.event).__name__
    schema = codec.event_schema(name)
    envelope = entry.caused.envelope() if entry.caused else None
    meta = Meta(
        prev_hash=prev_hash,
        chain=chain,
        seq=seq,
        epoch=1,
        schema=schema.digest,
        event_id=event_id(envelope.command_id, name, index)
        if envelope
        else event_id(position_cause(chain, seq), name, 0),
        stream=entry.stream,
        stream_seq=version,
        recorded_at=entry.recorded_at,
        cause=envelope.command_id if envelope else None,
        correlation=envelope.correlation if envelope else None,
        trace=envelope.trace if envelope else None,
    )
    return encode_record(schema.text, meta, entry.signed, codec.to_dict(entry.event))
