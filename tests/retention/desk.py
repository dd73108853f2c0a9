"""Retention with its stores on a folder, restartable, beside a ledger in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tensorguard.artifact.store import MANIFEST, PAYLOAD, SIGNATURE

from processors.batches.inputs import BlobInputStore
from processors.batches.results import BlobResultStore
from processors.blobs.file import FileBlobStore
from processors.exporter.store import ExportStore
from processors.keys.file import FileKeyProvider
from processors.retention import Retention
from tests.retention.ledger import RUN, TENANT, Breaking, Ledger

KEEP = 2


@dataclass
class Desk:
    """What a test has in its hands: the stores, the ledger, a clock, and the processor of now."""

    folder: Path
    ledger: Ledger = field(default_factory=Ledger)
    seconds: float = 0.0
    now: int = 1_700_000_000_000_000

    def __post_init__(self) -> None:
        self.blobs, keys = Breaking(self.folder / "blobs"), FileKeyProvider(self.folder / "keys")
        self.inputs = BlobInputStore(self.blobs, keys)
        self.results = BlobResultStore(self.blobs, keys, lambda: self.now, seconds=60)
        self.exports = ExportStore(FileBlobStore(self.folder / "exports"), keys, lambda: self.now, seconds=60)
        self.restart()

    def restart(self) -> None:
        """The processor's process starts anew: it knows nothing but where the ledger begins."""
        self.blobs.left = float("inf")
        self.position = 0
        stores = (self.blobs, self.inputs, self.results, self.exports)
        self.retention = Retention(TENANT, *stores, KEEP, lambda: self.now, lambda: self.seconds)

    def work(self) -> None:
        """Read to the end, do what is due, report it, and read on until nothing is left."""
        while True:
            self.read()
            intents = self.retention.caught_up()
            for intent in intents:
                assert isinstance(self.ledger.report(intent), bytes), intent
            if not intents:
                return

    def read(self) -> None:
        """Read to the end."""
        for recorded in self.ledger.records[self.position :]:
            if type(recorded.event) in self.retention.events:
                self.retention.handle(recorded)
        self.position = len(self.ledger.records)

    def submit(self, run_id: str = RUN) -> bytes:
        """Seal an input and have its command accepted, as the doors do; the operation's id."""
        operation_id = self.put(run_id)
        assert self.ledger.batch(run_id, operation_id=operation_id) == operation_id
        return operation_id

    def put(self, run_id: str = RUN) -> bytes:
        """Seal an input alone."""
        operation_id = next(self.ledger.numbers).to_bytes(16, "big")
        self.inputs.put(TENANT, run_id, self.ledger.state(run_id).durable.op_seq, operation_id, operation_id)
        return operation_id

    def store(self, artifact: bytes) -> bytes:
        """The blobs of a checkpoint."""
        for name in (MANIFEST, SIGNATURE, PAYLOAD):
            with self.blobs.put(f"{TENANT}/{artifact.hex()}/{name}") as out:
                out.write(name.encode())
        return artifact

    def artifacts(self) -> set[str]:
        """Checkpoints of which anything lies in the store."""
        parts = (name.split("/") for name in self.blobs.list())
        return {part[1] for part in parts if part[1] not in ("inputs", "results")}

    def keys(self, run_id: str = RUN) -> set[int]:
        """The intervals whose keys lie in the store."""
        return {number for number in self.inputs.intervals(TENANT, run_id) if self._has_key(run_id, number)}

    def _has_key(self, run_id: str, number: int) -> bool:
        return self.blobs.exists(f"{TENANT}/inputs/{run_id}/{number}/key")
