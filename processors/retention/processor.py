"""The processor that destroys what nothing can need again, and reports it once it is gone.

What is to go follows from the ledger alone, and destroying twice is destroying once: after a crash at any point the
next start finds the same things due, finishes them, and reports them. What never reached the ledger (an input whose
command was not accepted, a key made for it, a result whose time is over) is swept at the start and now and then.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import structlog
from tensorguard.artifact.store import MANIFEST, PAYLOAD, SIGNATURE, artifact_prefix
from tensorguard.errors import TensorGuardError

from processors.base import Intent
from processors.batches.inputs import BlobInputStore
from processors.batches.results import BlobResultStore
from processors.blobs.file import FileBlobStore
from processors.exporter.store import ExportStore
from processors.retention.known import EVENTS, Runs
from producers.identities import HOUR
from schemas import events as e
from schemas.commands import RecordArtifactDeleted, RecordBatchKeyDestroyed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from processors.base import Recorded
    from processors.batches.port import InputStore, ResultStore
    from processors.blobs.port import BlobStore
    from processors.retention.known import Key
    from producers.installation import Installation
    from schemas.base import Command, Event

SWEEP_SECONDS = 60.0
ORPHAN_SECONDS = 2 * HOUR / 1_000_000
"""An input that the ledger does not know may still be accepted as long as its command is good; then it is an orphan."""
log = structlog.get_logger(__name__)
Stranger = tuple[str, str, int, bytes]


class Retention:
    """Keeps as much of one tenant's as is needed. ``keep``: automatic checkpoints that stay for each run.

    ``clock`` gives microseconds since the epoch, ``seconds`` seconds that only grow.
    """

    name = "retention"
    role = "retention"
    events: ClassVar[frozenset[type[Event]]] = EVENTS

    def __init__(
        self,
        tenant: str,
        blobs: BlobStore,
        inputs: InputStore,
        results: ResultStore,
        exports: ExportStore,
        keep: int,
        clock: Callable[[], int],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tenant = tenant
        self._blobs = blobs
        self._inputs = inputs
        self._results = results
        self._exports = exports
        self._keep = keep
        self._clock = clock
        self._seconds = seconds
        self._runs = Runs()
        self._touched: set[Key] = set()
        self._reported: dict[tuple[Key, bytes], bytes] = {}
        self._strangers: dict[Stranger, float] = {}
        self._sweep_at = seconds()

    @classmethod
    def maker(cls, installation: Installation) -> Callable[[str], Retention]:
        """What makes the one of a tenant, on an installation's stores."""
        blobs, keep = FileBlobStore(installation.blobs_dir), installation.settings.checkpoints_kept
        inputs, results = BlobInputStore.of(installation), BlobResultStore.of(installation)
        exports, clock = ExportStore.of(installation), installation.clock
        return lambda tenant: cls(tenant, blobs, inputs, results, exports, keep, clock)

    def handle(self, recorded: Recorded) -> Sequence[Intent]:
        """Fold; nothing is destroyed before everything that is recorded is folded."""
        if recorded.chain != self._tenant:
            return ()
        if key := self._runs.fold(recorded):
            self._touched.add(key)
            match recorded.event:
                case e.BatchKeyDestroyed(interval=interval):
                    self._reported.pop((key, _interval(interval)), None)
                case e.ArtifactDeleted(artifact_id=artifact):
                    self._reported.pop((key, _artifact(artifact)), None)
        return ()

    def caught_up(self) -> Sequence[Intent]:
        """Destroy what is due; what to report of it."""
        if self._seconds() >= self._sweep_at:
            self._sweep_at = self._seconds() + SWEEP_SECONDS
            self._touched.update(self._runs.keys())
            self._attempt(self._sweep)
        touched, self._touched = self._touched, set()
        return [intent for key in sorted(touched) for intent in self._due(key)]

    def _due(self, key: Key) -> Iterator[Intent]:
        chain, run_id = key
        known = self._runs.of(key)
        for interval in known.covered():
            destroy = partial(self._inputs.destroy, chain, run_id, interval)
            yield from self._destroyed(key, _interval(interval), RecordBatchKeyDestroyed(run_id, interval), destroy)
        for artifact in self._runs.deletable(key, self._keep):
            delete = partial(self._delete, chain, artifact, known.exports.get(artifact, ()))
            yield from self._destroyed(key, _artifact(artifact), RecordArtifactDeleted(run_id, artifact), delete)

    def _destroyed(self, key: Key, what: bytes, command: Command, destroy: Callable[[], None]) -> Iterator[Intent]:
        """The report, once the thing is gone; what could not be destroyed is tried again at the next sweep.

        A report that was not accepted when the run's durable state moves on is another one, and sent again; so is one
        that waited too long for its decision, because the server was down.
        """
        known = self._runs.of(key)
        attempt = known.state.durable.op_seq.to_bytes(8, "big") + known.expired.to_bytes(4, "big")
        trigger = known.created + attempt + what
        if self._reported.get((key, what)) != trigger and self._attempt(destroy):
            self._reported[key, what] = trigger
            yield Intent(key[0], f"run/{key[1]}", command, trigger, type(command).__name__)

    def _delete(self, tenant: str, artifact: bytes, exports: Iterable[bytes]) -> None:
        """What was handed out in the clear goes too; of the rest the manifest first: it holds the wrapped key."""
        for export in exports:
            self._exports.destroy(tenant, export)
        prefix = artifact_prefix(tenant, artifact.hex())
        self._blobs.destroy(f"{prefix}/{MANIFEST}")
        for name in (SIGNATURE, PAYLOAD):
            self._blobs.delete(f"{prefix}/{name}")

    def _attempt(self, destroy: Callable[[], None]) -> bool:
        try:
            destroy()
        except (TensorGuardError, OSError) as error:
            log.warning("retention_delayed", code=getattr(error, "code", "os_error"), error=type(error).__name__)
            return False
        return True

    # -- what the ledger never heard of, or needs no more ------------------------------------------------------------

    def _sweep(self) -> None:
        tenant, now = self._tenant, self._seconds()  # Before anything is looked at: what is judged is no older.
        self._results.sweep(tenant, self._clock())
        found: set[Stranger] = set()
        for (run_id, interval), operations in self._inputs.stored(tenant).items():
            known = self._runs.get(tenant, run_id)
            if known is not None and known.is_over(interval) and not known.on_ledger(interval):
                self._inputs.destroy(tenant, run_id, interval)
                continue
            for operation in operations:
                if known is not None and operation in known.inputs.get(interval, {}):
                    if not known.needs(interval, operation):
                        self._inputs.discard(tenant, run_id, interval, operation)
                else:
                    found.add((tenant, run_id, interval, operation))
        self._sweep_strangers(found, now)

    def _sweep_strangers(self, found: set[Stranger], now: float) -> None:
        """Discard inputs that have been unknown to the ledger for longer than a command can wait."""
        self._strangers = {each: self._strangers.get(each, now) for each in found}
        for each, since in self._strangers.items():
            if now - since > ORPHAN_SECONDS:
                self._inputs.discard(*each)


def _interval(number: int) -> bytes:
    return b"interval" + number.to_bytes(8, "big")


def _artifact(artifact: bytes) -> bytes:
    return b"artifact" + artifact
