"""A small signed ledger in memory: real keys, real commands, decided by the real deciders, sealed record by record.

It is the sequencer and the signer in their plainest form, for tests of what reads a ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from tensorguard.ledger import checkpoint as checkpoints
from tensorguard.ledger import record as records
from tensorguard.ledger import trust
from tensorguard.ledger.envelope import Envelope, SignedCommand, key_id_of, sign_batch
from tensorguard.ledger.export import ExportWriter
from tensorguard.ledger.format import BOOTSTRAP
from tensorguard.ledger.merkle import leaf_hash, root_of

from producers.deciders import engine, registry
from producers.deciders.context import Rejected
from schemas import codec
from schemas import commands as c
from schemas import events as e
from schemas.types import ExecutionPlan, LoraSpec, ModelFile, OptimizerSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from schemas.base import Command, Event

START = 1_760_000_000_000_000
HOUR = 3_600_000_000
BOOTSTRAP_NAMES = {name for name, _ in BOOTSTRAP.values()}
ROLES = ("gateway", "dispatcher", "worker", "packager")


def seed(label: str) -> bytes:
    return sha256(b"test key\0" + label.encode()).digest()


def ed25519(label: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed(label))


def mldsa44(label: str) -> MLDSA44PrivateKey:
    return MLDSA44PrivateKey.from_seed_bytes(seed(label))


def raw(key: Ed25519PrivateKey | MLDSA44PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def schema_texts() -> dict[bytes, str]:
    """Every event's record schema by digest, as a chain that used all of them would have registered."""
    schemas = [codec.event_schema(name) for name in codec.EVENTS]
    return {schema.digest: schema.text for schema in schemas}


@dataclass
class Chain:
    """One chain being written; ``records`` are its bytes."""

    ledger: Ledger
    name: str
    epoch: int = 1
    records: list[bytes] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    now: int = START
    note: bytes | None = None
    states: dict[str, object | None] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    registered: set[bytes] = field(default_factory=set)
    commands: int = 0

    def open(self) -> None:
        opened = e.ChainOpened(1, self.name, f"{self.ledger.origin}/{self.name}", 0, raw(self.ledger.authority))
        self._seal_own(opened)
        self._seal_own(e.EpochOpened(self.epoch, "test writer 1"))

    def take_over(self) -> None:
        self.epoch += 1
        self._seal_own(e.EpochOpened(self.epoch, f"test writer {self.epoch}"))

    def envelope(self, command: Command, **changes: Any) -> Envelope:
        self.commands += 1
        name = type(command).__name__
        values: dict[str, Any] = {
            "chain": self.name,
            "tenant": self.name,
            "stream": registry.stream_of(command),
            "expected_version": None,
            "command_id": sha256(f"{self.name} {self.commands}".encode()).digest()[:16],
            "command_type": name,
            "schema": codec.command_schema(name).digest,
            "issued_at": self.now,
            "expires_at": self.now + HOUR,
            "on_behalf_of": None,
            "correlation": None,
            "trace": None,
            "body": codec.encode_command(command),
        }
        return Envelope(**{**values, **changes})

    def submit(self, role: str, *commands: Command, **changes: Any) -> list[bytes]:
        """Sign commands under one signature and decide them; their ids."""
        envelopes = [self.envelope(command, **changes) for command in commands]
        for signed in self.ledger.sign(role, envelopes):
            self.decide(signed)
        return [envelope.command_id for envelope in envelopes]

    def decide(self, signed: SignedCommand) -> None:
        presented = engine.present_signed(signed)
        identity = engine.authenticate(presented, self.name, raw(self.ledger.authority), self.states.get)
        assert identity is not None, "an unauthenticated command never reaches a ledger"
        self.now += 1000
        verdict = engine.judge(
            presented,
            identity,
            chain=self.name,
            now=self.now,
            find=self.states.get,
            version_of=lambda stream: self.versions.get(stream, 0),
        )
        if isinstance(verdict, Rejected):
            self.seal(signed, "rejections", (engine.rejection_event(presented.envelope, verdict),))
        else:
            self.seal(signed, verdict.stream, verdict.events)

    def seal(self, signed: SignedCommand, stream: str, events: Sequence[Event]) -> None:
        """Append what a command led to; all of it carries the time of the decision."""
        envelope = signed.envelope()
        self._register("command", envelope.command_type)
        for event in events:
            self._register("event", type(event).__name__)
        for index, event in enumerate(events):
            name = type(event).__name__
            self._append(
                event,
                stream,
                records.event_id(envelope.command_id, name, index),
                command=signed if index == 0 else None,
                envelope=envelope,
            )
            self.states[stream] = registry.evolve(self.states.get(stream), stream, event)

    def _register(self, kind: str, name: str) -> None:
        schema = codec.event_schema(name) if kind == "event" else codec.command_schema(name)
        if schema.digest in self.registered or (kind == "event" and name in BOOTSTRAP_NAMES):
            return
        self.registered.add(schema.digest)
        self._seal_own(e.SchemaRegistered(kind, name, schema.digest, schema.text))

    def _seal_own(self, event: Event) -> None:
        name = type(event).__name__
        cause = records.position_cause(self.name, len(self.records))
        self._append(event, "chain", records.event_id(cause, name, 0))

    def _append(
        self,
        event: Event,
        stream: str,
        event_id: bytes,
        command: SignedCommand | None = None,
        envelope: Envelope | None = None,
    ) -> None:
        version = self.versions.get(stream, 0)
        self.versions[stream] = version + 1
        schema = codec.event_schema(type(event).__name__)
        meta = records.Meta(
            prev_hash=self.leaves[-1] if self.leaves else records.GENESIS_PREV_HASH,
            chain=self.name,
            seq=len(self.records),
            epoch=self.epoch,
            schema=schema.digest,
            event_id=event_id,
            stream=stream,
            stream_seq=version,
            recorded_at=self.now,
            cause=envelope.command_id if envelope else None,
            correlation=envelope.correlation if envelope else None,
            trace=envelope.trace if envelope else None,
        )
        self.records.append(records.encode_record(schema.text, meta, command, codec.to_dict(event)))
        self.leaves.append(leaf_hash(self.records[-1]))

    def checkpoint(self, size: int | None = None, signer: str | None = None) -> bytes:
        """A signed note over the first ``size`` records (all of them by default)."""
        size = len(self.records) if size is None else size
        return self.ledger.sign_head(self.name, size, root_of(self.leaves[:size]), signer)


@dataclass
class Ledger:
    """An installation with its chains."""

    installation_id: str = "test"
    chains: dict[str, Chain] = field(default_factory=dict)
    signers: list[str] = field(default_factory=lambda: ["signer-1"])
    trust_root: bytes = b""
    artifact: str = "artifact"

    @property
    def origin(self) -> str:
        return f"tensorguard.local/{self.installation_id}"

    @property
    def authority(self) -> Ed25519PrivateKey:
        return self.key("authority")

    @property
    def artifact_key(self) -> bytes:
        return (seed(self.artifact) * 62)[: 1952 + 32]

    def key(self, role: str) -> Ed25519PrivateKey:
        return ed25519(f"{self.installation_id} {role}")

    def signer_keys(self, signer: str) -> checkpoints.SignerKeys:
        return checkpoints.SignerKeys(raw(ed25519(signer)), raw(mldsa44(signer)), START // 1_000_000)

    def sign(self, role: str, envelopes: Sequence[Envelope]) -> list[SignedCommand]:
        key = self.key(role)
        return sign_batch([envelope.to_bytes() for envelope in envelopes], raw(key), key.sign)

    def sign_head(self, chain: str, size: int, root: bytes, signer: str | None = None) -> bytes:
        signer = signer or self.signers[-1]
        head = checkpoints.Checkpoint(f"{self.origin}/{chain}", size, root)
        return checkpoints.sign(head, ed25519(signer), mldsa44(signer), START // 1_000_000 + size)

    def open(self, name: str) -> Chain:
        chain = self.chains[name] = Chain(self, name)
        chain.open()
        return chain

    def enrol(self, chain: Chain, *roles: str) -> None:
        """Let keys speak, all under one signature of the authority."""
        keys = [raw(self.key(role)) for role in roles]
        chain.submit(
            "authority",
            *(
                c.EnrolProducer(key_id_of(key), key, role, f"test {role}", None)
                for role, key in zip(roles, keys, strict=True)
            ),
        )

    def root(self) -> trust.TrustRoot:
        return trust.TrustRoot(
            self.installation_id,
            self.origin,
            raw(self.authority),
            tuple(self.signer_keys(signer) for signer in self.signers),
            (trust.ArtifactKey(sha256(self.artifact_key).digest(), self.artifact_key),),
            START // 1_000_000 + len(self.signers),
        )

    def publish(self) -> None:
        """Sign every chain's head and the trust root."""
        for chain in self.chains.values():
            chain.note = chain.checkpoint()
        self.trust_root = trust.build(self.root(), self.authority.sign)

    def write(self, directory: Path) -> Path:
        """The export of what is published."""
        writer = ExportWriter(directory)
        writer.write_trust_root(self.trust_root)
        for chain in self.chains.values():
            writer.write_chain(chain.name, chain.records, chain.note)
        return directory


def good_ledger(installation_id: str = "test", steps: int = 2) -> Ledger:
    """A platform chain and one tenant's, with a bit of everything; published."""
    ledger = Ledger(installation_id)
    write_platform(ledger.open("platform"))
    write_tenant(ledger.open("acme"), steps)
    ledger.publish()
    return ledger


def write_platform(chain: Chain) -> None:
    ledger = chain.ledger
    ledger.enrol(chain, "gateway", "dispatcher")
    keys = ledger.signer_keys(ledger.signers[0])
    chain.submit("authority", c.PublishSignerKey(keys.ed25519, keys.mldsa44))
    key = ledger.artifact_key
    chain.submit("authority", c.PublishArtifactKey(sha256(key).digest(), key))
    files = (ModelFile("model.safetensors", seed("weights"), 1234), ModelFile("config.json", seed("config"), 99))
    chain.submit(
        "authority", c.RegisterModel("tiny", "llama", files, seed("manifest"), seed("tokenizer"), 512, 128, 10_000)
    )


def rotate_signer(ledger: Ledger, signer: str) -> None:
    """New signer keys from here on."""
    before, after = ledger.signer_keys(ledger.signers[-1]), ledger.signer_keys(signer)
    command = c.RotateSignerKey(before.ed25519, after.ed25519, after.mldsa44)
    ledger.chains["platform"].submit("authority", command)
    ledger.signers.append(signer)


def write_tenant(chain: Chain, steps: int) -> None:
    chain.ledger.enrol(chain, *ROLES)
    chain.submit("authority", c.IssueApiKey("0123456789abcdef", seed("secret"), ("train",)))
    lora = LoraSpec(4, 8.0, 0.0, ("q_proj", "v_proj"), "none")
    optimizer = OptimizerSpec("adamw", 1e-3, 0.0, 0.9, 0.999, 1e-8)
    create = c.CreateRun("run-1", "tiny", seed("manifest"), seed("tokenizer"), lora, optimizer, 2, 1, None, 7, None)
    api_key = {"on_behalf_of": "0123456789abcdef"}
    chain.submit("gateway", create, **api_key, correlation=seed("request")[:16], trace=seed("trace")[:16])
    chain.submit("dispatcher", c.GrantLease("run-1", "worker-1"))
    for step in range(1, steps + 1):
        write_step(chain, step)
    chain.take_over()
    batch = c.SubmitForwardBackward("run-1", seed("lost"), 2, 64, None)
    chain.submit("gateway", batch, batch, **api_key)
    chain.submit("dispatcher", c.GrantLease("run-1", "worker-2"))
    chain.submit("gateway", batch, tenant="somebody-else")
    chain.submit("worker", batch)
    chain.submit("gateway", c.CloseRun("run-1"), **api_key)
    packager = key_id_of(raw(chain.ledger.key("packager")))
    chain.submit("authority", c.RevokeProducer(packager))


def write_step(chain: Chain, step: int) -> None:
    (batch,) = chain.submit("gateway", c.SubmitForwardBackward("run-1", seed(f"batch {step}"), 2, 64, None))
    chain.submit("worker", c.CompleteForwardBackward("run-1", batch, 1, 5.0 - step / 8, 1.25, 64))
    (optim,) = chain.submit("gateway", c.SubmitOptimStep("run-1", None, None))
    plan = ExecutionPlan("test", "avx2", 2, 1, "float32", "eager")
    chain.submit("worker", c.RecordStep("run-1", optim, 1, step, 1e-3, seed(f"adapter {step}"), plan))
