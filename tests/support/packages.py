"""From a checkpoint to a package with its receipt, on a real ledger: what tests of packager and device start from."""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from safetensors.numpy import save
from tensorguard.artifact import ArtifactSubject, LoraSettings, OptimizerSettings, SealedArtifact, seal_artifact
from tensorguard.crypto.composite import CompositePrivateKey
from tensorguard.tgsp.tensors import adapter_digest, parse

from api import receipts
from edge.identity import Identity
from processors.blobs.file import FileBlobStore
from processors.keys.file import FileKeyProvider
from processors.packager import Packager
from processors.packager.workbench import ADAPTER, Workbench
from processors.runners.embedded import EmbeddedRunner
from producers.deciders.registry import stream_of
from producers.identities import make_envelope
from schemas import commands as c
from schemas.events import PackageFailed, PackageSigned
from schemas.types import LoraSpec, ModelFile, OptimizerSpec
from tests.support.ledgers import Ledger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from producers.engines.port import Reply
    from producers.feed import Recorded
    from producers.identities import Producer
    from schemas.base import Command

TENANT, RUN = "acme", "run-1"
LORA = LoraSpec(rank=4, alpha=8.0, dropout=0.0, target_modules=("q_proj", "v_proj"), bias="none")
ADAMW = OptimizerSpec(name="adamw", learning_rate=1e-3, weight_decay=0.0, beta1=0.9, beta2=0.999, eps=1e-8)
MODEL = c.RegisterModel(
    name="tiny",
    architecture="LlamaForCausalLM",
    files=(ModelFile("config.json", bytes(32), 2),),
    manifest_digest=b"\x11" * 32,
    tokenizer_digest=b"\x22" * 32,
    vocabulary_size=384,
    max_positions=128,
    parameters=1,
)


class Shop:
    """An installation with a model, a run and an enrolled device; or another tenant of one that there is."""

    def __init__(
        self, folder: Path, model: c.RegisterModel = MODEL, *, ledger: Ledger | None = None, tenant: str = TENANT
    ) -> None:
        self.ledger = ledger or Ledger(folder / "data")
        self.data = self.ledger.folder
        self.tenant = tenant
        self.model = model
        self.device_folder = folder / "device"
        self.device = Identity.create(self.device_folder)
        self.gateway = self.ledger.installation.producer("gateway")
        if ledger is None:
            self.ask(model, chain="platform", by=self.ledger.authority)
        self.enrol(self.device)
        digests = (model.manifest_digest, model.tokenizer_digest)
        self.ask(c.CreateRun(RUN, model.name, *digests, LORA, ADAMW, 2, 1, None, 7, None), by=self.gateway)

    def enrol(self, device: Identity) -> None:
        """Let a device of the tenant take part."""
        enrolment = c.EnrolProducer(device.key_id, device.public_key, "device", "device", device.hpke_key.public_key)
        self.ask(enrolment, by=self.ledger.authority)

    def ask(self, command: Command, *, by: Producer, chain: str | None = None) -> Reply:
        """Have a command decided, and accepted."""
        chain = chain or self.tenant
        now, command_id = self.ledger.clock(), secrets.token_bytes(16)
        envelope = make_envelope(command, chain=chain, stream=stream_of(command), command_id=command_id, now=now)
        reply = self.ledger.submitter.submit_and_wait(by, envelope)
        reply.raise_for_outcome()
        return reply

    def save(self, tensors: Mapping[str, Any], *, artifact_id: str = "ab" * 16, **changes: Any) -> SealedArtifact:
        """Seal a checkpoint: numpy arrays by names that start with ``adapter/`` or ``optimizer/``."""
        image = save(dict(tensors))
        found, _ = parse(image)
        adapter = {n.removeprefix(ADAPTER): t for n, t in found.items() if n.startswith(ADAPTER)}
        subject = ArtifactSubject(
            artifact_id=artifact_id,
            tenant=self.tenant,
            run_id=RUN,
            step=5,
            through_op_seq=10,
            model=self.model.name,
            manifest_digest=self.model.manifest_digest.hex(),
            tokenizer_digest=self.model.tokenizer_digest.hex(),
            lora=LoraSettings(rank=4, alpha=8.0, dropout=0.0, target_modules=["q_proj", "v_proj"], bias="none"),
            optimizer=OptimizerSettings(
                name="adamw", learning_rate=1e-3, weight_decay=0.0, beta1=0.9, beta2=0.999, eps=1e-8
            ),
            includes_optimizer=True,
            adapter_digest=adapter_digest(image, adapter).hex(),
            created_at=self.ledger.clock(),
        ).model_copy(update=changes)
        return seal_artifact(
            subject,
            [image],
            store=FileBlobStore(self.data / "blobs"),
            dek=FileKeyProvider(self.data / "keys").tenant_dek(self.tenant),
            signing_key=CompositePrivateKey((self.data / "keys" / "artifact.key").read_bytes()),
        )

    def order(self, sealed: SealedArtifact, *, recipients: tuple[bytes, ...] | None = None, **changes: Any) -> bytes:
        """Ask for a package of a checkpoint, by default for the device; the package's id on the ledger."""
        package_id = secrets.token_bytes(16)
        wanted = {
            "package_id": package_id,
            "run_id": RUN,
            "artifact_id": bytes.fromhex(sealed.manifest.artifact_id),
            "manifest_digest": sealed.manifest_digest,
            "recipients": (self.device.key_id,) if recipients is None else recipients,
            "release_counter": 0,
            "expires_at": None,
        }
        self.ask(c.RequestPackage(**{**wanted, **changes}), by=self.gateway)
        return package_id

    def pack(self) -> None:
        """Let a fresh packager, which knows nothing, do all that waits, and have its reports decided."""
        packager = Packager(Workbench.of(self.ledger.installation))
        runner = EmbeddedRunner(self.ledger.installation, self.ledger.engine, [packager])
        while runner.step():
            pass
        self.ledger.submitter._decide_inline()

    def outcome(self, package_id: bytes) -> Recorded | None:
        """The record of a package's signing, or of its failure."""
        return next(
            (
                recorded
                for recorded in self.ledger.events(self.tenant)
                if isinstance(recorded.event, PackageSigned | PackageFailed) and recorded.event.package_id == package_id
            ),
            None,
        )

    def file(self, package_id: bytes) -> Path:
        """Where a package's file lies."""
        return self.data / "packages" / self.tenant / f"{package_id.hex()}.tgsp"

    def receipt(self, package_id: bytes) -> bytes:
        """The ledger's receipt of a package's signing, fresh from the signer."""
        self.ledger.sign()
        recorded = self.outcome(package_id)
        assert recorded is not None
        return receipts.receipt(self.ledger.engine, self.tenant, recorded.seq, 10.0)

    @property
    def trust_root(self) -> Path:
        """The trust root's file."""
        return self.ledger.installation.trust_root_path

    def close(self) -> None:
        """Give everything back."""
        self.ledger.close()


def digest_of_file(path: Path) -> bytes:
    """SHA-256 of a file."""
    return sha256(path.read_bytes()).digest()
